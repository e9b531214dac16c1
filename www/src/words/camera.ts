/** What the page says of cameras, the screen and captions: fetched with the first camera. */
import { inLanguage } from "./index.js";
import type { Widen } from "./translation.js";

const en = {
  camera: "Camera",
  screen: "Screen",
  view: "What the camera sees",
  screenView: "The screen or window that is shared",
  whichCamera: "Which camera",
  cameraNumber: (number: number) => `Camera ${number}`,
  turnOff: "Turn off",
  cameraOn: "The camera is on.",
  screenOn: "The screen is shared.",
  note: (seconds: number) =>
    seconds === 60
      ? "Questions are about what was seen in the last minute."
      : `While captions run, all questions are about the last ${seconds} s.`,
  middle: "The model sees the square in the middle.",
  noFrameYet: "No frame is encoded yet.",
  watching: (frames: number, seconds: number) =>
    `Watching: ${frames} ${frames === 1 ? "frame" : "frames"} of the last ${seconds} s`,
  leftOut: (frames: number) => `${frames} left out, since encoding takes longer than that`,

  // What keeps it from being opened, and what to do.
  insecure: "Browsers give the camera and the screen only to pages that come over https.",
  refused:
    "The camera was refused. Allow it beside the address of this page, and press Camera again.",
  none: "There is no camera. A clip from a file does as well.",
  busy: "Another program uses the camera. Close it, and press Camera again.",
  fails: (why: string) => `The camera can't be opened: ${why}`,
  ended:
    "The camera went away: it was unplugged, or its permission was taken back. Plug it in or allow it, and press Camera again.",
  screenRefused:
    "No screen was shared. Press Screen and choose one; if the browser lists none, the system's settings for recording the screen have to allow it.",
  screenFails: (why: string) => `The screen can't be shared: ${why}`,
  screenEnded: "The screen is no longer shared. Press Screen to share it again.",

  // Captions.
  captions: "Live captions",
  question: "Question",
  pace: "Again after",
  everyAnswer: "each answer",
  everySeconds: (seconds: number) => `${seconds} s`,
  start: "Start captions",
  stop: "Stop captions",
  noQuestion: "Write what is to be asked.",
  starting: "Waiting for the first picture.",
  answering: "Answering.",
  still: "Nothing has moved: not asked again.",
  hidden: "Paused while this tab is hidden.",
  held: "Paused for your question.",
  waiting: "Waiting for the next picture.",
  stopped: "Stopped.",
  figures: (answers: number, behind: string) =>
    `${answers} ${answers === 1 ? "answer" : "answers"}, the last ${behind} s behind the picture`,
  frames: (encoded: number, dropped: number) =>
    `${encoded} ${encoded === 1 ? "frame" : "frames"} encoded, ${dropped} dropped`,
  list: "Captions, newest first",
  earlier: (captions: number) =>
    `${captions} earlier ${captions === 1 ? "caption is" : "captions are"} in the files.`,
  caption: (text: string) => `Caption: ${text}`,
  saveVtt: "WebVTT",
  saveText: "Text",
  clear: "Clear",
  cleared: "The captions were cleared.",
};

/** The words of the camera, in some language. */
export type CameraWords = Widen<typeof en>;

const ja: CameraWords = {
  camera: "カメラ",
  screen: "画面",
  view: "カメラに映るもの",
  screenView: "共有している画面またはウィンドウ",
  whichCamera: "カメラの選択",
  cameraNumber: (number) => `カメラ ${number}`,
  turnOff: "オフにする",
  cameraOn: "カメラがオンです。",
  screenOn: "画面を共有しています。",
  note: (seconds) =>
    seconds === 60
      ? "質問は最近 1 分間に映ったものについてです。"
      : `字幕の実行中は、どの質問も最近 ${seconds} 秒についてです。`,
  middle: "モデルに見えるのは中央の正方形です。",
  noFrameYet: "モデルはまだ見ていません。",
  watching: (frames, seconds) => `監視中: 最近 ${seconds} 秒の ${frames} フレーム`,
  leftOut: (frames) => `間に合わず ${frames} フレームを省きました`,
  insecure: "ブラウザーは https のページにだけカメラと画面を許可します。",
  refused: "カメラが拒否されました。アドレスの横で許可してから、もう一度カメラを押してください。",
  none: "カメラがありません。動画ファイルでも試せます。",
  busy: "別のプログラムがカメラを使っています。それを閉じてから、もう一度カメラを押してください。",
  fails: (why) => `カメラを開けません: ${why}`,
  ended:
    "カメラが使えなくなりました。外されたか、許可が取り消されました。つなぎ直すか許可してから、もう一度カメラを押してください。",
  screenRefused:
    "画面は共有されませんでした。「画面」を押して選んでください。何も表示されないときは、システムの設定で画面の収録を許可する必要があります。",
  screenFails: (why) => `画面を共有できません: ${why}`,
  screenEnded: "画面の共有が終わりました。もう一度共有するには「画面」を押してください。",
  captions: "ライブ字幕",
  question: "質問",
  pace: "間隔",
  everyAnswer: "回答ごと",
  everySeconds: (seconds) => `${seconds} 秒`,
  start: "字幕を開始",
  stop: "字幕を停止",
  noQuestion: "質問を書いてください。",
  starting: "最初の映像を待っています。",
  answering: "回答中です。",
  still: "動きがないため、質問を繰り返していません。",
  hidden: "このタブが隠れている間は一時停止します。",
  held: "あなたの質問のため一時停止しています。",
  waiting: "次の映像を待っています。",
  stopped: "停止しました。",
  figures: (answers, behind) => `回答 ${answers} 件、最後の回答は映像の ${behind} 秒後`,
  frames: (encoded, dropped) => `エンコード済み ${encoded} フレーム、省略 ${dropped} フレーム`,
  list: "字幕（新しい順）",
  earlier: (captions) => `それより前の ${captions} 件はファイルに入ります。`,
  caption: (text) => `字幕: ${text}`,
  saveVtt: "WebVTT",
  saveText: "テキスト",
  clear: "消去",
  cleared: "字幕を消去しました。",
};

const zh: CameraWords = {
  camera: "摄像头",
  screen: "屏幕",
  view: "摄像头画面",
  screenView: "共享的屏幕或窗口",
  whichCamera: "选择摄像头",
  cameraNumber: (number) => `摄像头 ${number}`,
  turnOff: "关闭",
  cameraOn: "摄像头已打开。",
  screenOn: "正在共享屏幕。",
  note: (seconds) =>
    seconds === 60
      ? "问题针对最近一分钟看到的内容。"
      : `字幕运行时，所有问题都针对最近 ${seconds} 秒。`,
  middle: "模型只看到中间的正方形。",
  noFrameYet: "模型还没有看。",
  watching: (frames, seconds) => `正在观看：最近 ${seconds} 秒的 ${frames} 帧`,
  leftOut: (frames) => `编码来不及，略过 ${frames} 帧`,
  insecure: "浏览器只允许 https 页面使用摄像头和屏幕。",
  refused: "摄像头被拒绝。请在地址栏旁允许使用，然后再按一次“摄像头”。",
  none: "没有摄像头。也可以使用视频文件。",
  busy: "摄像头正被其他程序使用。请关闭该程序，然后再按一次“摄像头”。",
  fails: (why) => `无法打开摄像头：${why}`,
  ended: "摄像头已断开：它被拔下，或权限被收回。请重新连接或允许使用，然后再按一次“摄像头”。",
  screenRefused:
    "没有共享屏幕。请按“屏幕”并选择一个；如果浏览器没有列出任何屏幕，需要在系统设置中允许录制屏幕。",
  screenFails: (why) => `无法共享屏幕：${why}`,
  screenEnded: "屏幕共享已结束。要再次共享，请按“屏幕”。",
  captions: "实时字幕",
  question: "问题",
  pace: "提问间隔",
  everyAnswer: "每次回答后",
  everySeconds: (seconds) => `${seconds} 秒`,
  start: "开始字幕",
  stop: "停止字幕",
  noQuestion: "请写下要问的问题。",
  starting: "正在等待第一幅画面。",
  answering: "正在回答。",
  still: "画面没有变化，没有再次提问。",
  hidden: "标签页隐藏时暂停。",
  held: "因你的提问而暂停。",
  waiting: "正在等待下一幅画面。",
  stopped: "已停止。",
  figures: (answers, behind) => `${answers} 个回答，最后一个比画面晚 ${behind} 秒`,
  frames: (encoded, dropped) => `已编码 ${encoded} 帧，略过 ${dropped} 帧`,
  list: "字幕，最新的在前",
  earlier: (captions) => `更早的 ${captions} 条在文件中。`,
  caption: (text) => `字幕：${text}`,
  saveVtt: "WebVTT",
  saveText: "文本",
  clear: "清除",
  cleared: "字幕已清除。",
};

/** Returns the words in the language of the page. */
export function cameraWords(): CameraWords {
  return inLanguage({ en, ja, zh });
}
