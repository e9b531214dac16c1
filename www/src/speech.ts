/**
 * Reading answers aloud by the voices of this computer. Voices that a browser asks a server for are
 * left alone: what is said here stays here.
 */
import { inLanguage } from "./words/index.js";

/** Some browsers find their voices only after they were asked for. */
const PATIENCE_MS = 1500;

const NO_VOICE = {
  en: "This computer has no voice for that, and voices on a server are not used here.",
  ja: "このコンピューターには合う声がありません。サーバーの声はここでは使いません。",
  zh: "这台电脑没有合适的语音；此处不使用服务器上的语音。",
};

/**
 * Reads a text aloud in place of what is being read. Resolves to undefined once it is over or was
 * stopped, or to why it can't be read.
 */
export async function readAloud(text: string, signal: AbortSignal): Promise<string | undefined> {
  speechSynthesis.cancel();
  const language = languageOf(text);
  const voices = await localVoices();
  if (signal.aborted) return undefined;
  const voice = voices.find(({ lang }) => lang.toLowerCase().split(/[-_]/)[0] === language);
  if (!voice) return inLanguage(NO_VOICE);
  const utterance = new SpeechSynthesisUtterance(text.replace(/[*_`#>|~]+/g, " "));
  [utterance.voice, utterance.lang] = [voice, voice.lang];
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => {
      speechSynthesis.cancel();
      resolve(undefined);
    });
    utterance.addEventListener("end", () => resolve(undefined));
    utterance.addEventListener("error", () => resolve(undefined));
    speechSynthesis.speak(utterance);
  });
}

async function localVoices(): Promise<SpeechSynthesisVoice[]> {
  const local = () => speechSynthesis.getVoices().filter(({ localService }) => localService);
  if (local().length > 0) return local();
  await new Promise((resolve) => {
    speechSynthesis.addEventListener("voiceschanged", resolve, { once: true });
    setTimeout(resolve, PATIENCE_MS);
  });
  return local();
}

/** Models answer in the language that they know, not in that of the page. */
function languageOf(text: string): string {
  if (/[\u3040-\u30ff]/.test(text)) return "ja";
  if (/[\u4e00-\u9fff]/.test(text)) return "zh";
  return "en";
}
