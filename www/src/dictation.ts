/**
 * Questions that are spoken, where the browser hears them on this computer. One that would send
 * what it hears to a server is not used: then there is no button.
 */
import { hideAlert, showWarning } from "./alert.js";
import type { Composer } from "./composer.js";
import { byId, icon, make } from "./dom.js";
import { inLanguage } from "./words/index.js";

/** What of the Web Speech API is used, which TypeScript does not describe. */
interface Recognition extends EventTarget {
  lang: string;
  continuous: boolean;
  interimResults: boolean;
  processLocally: boolean;
  start(): void;
  stop(): void;
}
interface Recognizer {
  new (): Recognition;
  available?(asked: { langs: string[]; processLocally: boolean }): Promise<string>;
}

const WORDS = {
  en: {
    dictate: "Speak",
    failed: "Nothing was heard. May this page use the microphone?",
    unknown: "This browser does not hear this language without a server, which is not used here.",
  },
  ja: {
    dictate: "話す",
    failed: "何も聞こえませんでした。このページにマイクの使用を許可していますか？",
    unknown: "このブラウザーはこの言語をサーバーなしでは聞き取れません。サーバーは使いません。",
  },
  zh: {
    dictate: "说话",
    failed: "什么也没听到。是否允许此页面使用麦克风？",
    unknown: "此浏览器不借助服务器就听不懂这种语言；此处不使用服务器。",
  },
};
const LANGUAGES: Record<string, string> = { en: "en-US", ja: "ja-JP", zh: "zh-CN" };

/** The language of the page, as the browser's recognition names it. */
const language = () => LANGUAGES[document.documentElement.lang.slice(0, 2)] ?? "en-US";

/** Puts a button beside the others, if speech is heard here. */
export async function offerDictation(composer: Composer): Promise<void> {
  const { SpeechRecognition: Recognizer } = globalThis as { SpeechRecognition?: Recognizer };
  if (!Recognizer?.available) return;
  const isHeardHere = async () => {
    const asked = { langs: [language()], processLocally: true };
    return (await Recognizer.available?.(asked).catch(() => "")) === "available";
  };
  if (!(await isHeardHere())) return;

  const text = make("span");
  const speak = make("button", { type: "button", className: "button quiet tool", id: "dictate" });
  speak.append(icon("microphone"), text);
  const name = () => (text.textContent = inLanguage(WORDS).dictate);
  name();
  new MutationObserver(name).observe(document.documentElement, { attributeFilter: ["lang"] });
  speak.setAttribute("aria-pressed", "false");
  byId("screen-open", HTMLButtonElement).after(speak);

  const alert = byId("ask-alert", HTMLDivElement);
  let listening: Recognition | undefined;
  const listen = async () => {
    hideAlert(alert);
    if (!(await isHeardHere())) return showWarning(alert, inLanguage(WORDS).unknown);
    const recognition = new Recognizer();
    Object.assign(recognition, {
      lang: language(),
      continuous: true,
      interimResults: true,
      processLocally: true,
    });
    const before = composer.text.trimEnd();
    recognition.addEventListener("result", (event) => {
      const { results } = event as Event & { results: Iterable<ArrayLike<{ transcript: string }>> };
      const heard = [...results].map((result) => result[0]?.transcript ?? "").join("");
      composer.text = before === "" ? heard.trimStart() : `${before} ${heard.trimStart()}`;
    });
    recognition.addEventListener("error", (event) => {
      const { error } = event as Event & { error: string };
      if (error !== "aborted") showWarning(alert, inLanguage(WORDS).failed);
    });
    recognition.addEventListener("end", () => {
      if (listening !== recognition) return;
      listening = undefined;
      speak.setAttribute("aria-pressed", "false");
    });
    listening = recognition;
    speak.setAttribute("aria-pressed", "true");
    recognition.start();
  };
  speak.addEventListener("click", () => (listening ? listening.stop() : void listen()));
  // What is asked is whole.
  speak.form?.addEventListener("submit", () => listening?.stop());
}
