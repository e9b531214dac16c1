/** Speech on the demo page: answers read aloud, questions heard, by this computer or not at all. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { ask, beGreedy, openDemo, SAMPLES } from "./demo.mjs";

test("an answer is read aloud by a voice of this computer alone, and stopped", async (t) => {
  const { page, close } = await openDemo();
  t.after(close);
  // Machines of tests have no voices: these stand for them, and write down what is to be said.
  await page.addInitScript(() => {
    const said = /** @type {string[]} */ ([]);
    const voices = /** @type {object[]} */ ([]);
    class Utterance extends EventTarget {
      /** @type {{ name?: string } | undefined} */
      voice;
      lang = "";
      /** @param {string} text */
      constructor(text) {
        super();
        this.text = text;
      }
    }
    const speechSynthesis = Object.assign(new EventTarget(), {
      getVoices: () => voices,
      speak: (/** @type {Utterance} */ { text, voice }) => said.push(`${voice?.name}: ${text}`),
      cancel: () => said.push("cancel"),
    });
    Object.defineProperty(globalThis, "speechSynthesis", { value: speechSynthesis });
    Object.assign(globalThis, { SpeechSynthesisUtterance: Utterance, said, voices });
  });
  await page.reload();
  await beGreedy(page);
  await ask(page, "List everything from left to right.", join(SAMPLES, "penguin-cookie.png"));
  const said = () =>
    page.evaluate(() =>
      /** @type {typeof globalThis & { said: string[] }} */ (globalThis).said.splice(0),
    );
  const addVoice = (/** @type {boolean} */ localService, /** @type {string} */ name) =>
    page.evaluate(
      (voice) =>
        /** @type {typeof globalThis & { voices: object[] }} */ (globalThis).voices.push(voice),
      { localService, name, lang: "en-GB" },
    );
  const button = page.getByRole("button", { name: "Read aloud: this answer" });
  // A voice on a server would be sent what was answered.
  await addVoice(false, "server");
  await button.click();
  await page.locator(".metrics").getByText("This computer has no voice for that").waitFor();
  assert.deepEqual(await said(), ["cancel"]);
  await addVoice(true, "here");
  await button.click();
  await page.waitForFunction(
    () => /** @type {typeof globalThis & { said: string[] }} */ (globalThis).said.length === 2,
  );
  assert.deepEqual(await said(), ["cancel", "here: penguin and cookie"]);
  assert.equal(await button.getAttribute("aria-pressed"), "true");
  await button.click();
  await page.locator('[aria-label="Read aloud: this answer"][aria-pressed="false"]').waitFor();
  assert.deepEqual(await said(), ["cancel"]);
  // A conversation that is left falls silent.
  await button.click();
  await page.locator('[aria-label="Read aloud: this answer"][aria-pressed="true"]').waitFor();
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.waitForFunction(
    () => /** @type {typeof globalThis & { said: string[] }} */ (globalThis).said.length === 3,
  );
});

test("a question is spoken where this computer hears it, and nowhere else", async (t) => {
  const { page, close } = await openDemo({ webgpu: false });
  t.after(close);
  // Machines of tests hear nothing: this stands for a browser that does, or would ask a server.
  await page.addInitScript(() => {
    class SpeechRecognition extends EventTarget {
      static here = "available";
      static async available() {
        return SpeechRecognition.here;
      }
      start() {
        Object.assign(globalThis, { recognition: this });
      }
      stop() {
        this.dispatchEvent(new Event("end"));
      }
      say(/** @type {string[]} */ ...heard) {
        const results = heard.map((transcript) => [{ transcript }]);
        this.dispatchEvent(Object.assign(new Event("result"), { results }));
      }
    }
    if (sessionStorage.getItem("server")) SpeechRecognition.here = "unavailable";
    Object.assign(globalThis, { SpeechRecognition });
  });
  await page.reload();
  const button = page.getByRole("button", { name: "Speak" });
  const field = page.locator("#question");
  await field.fill("Tell me:");
  await button.click();
  await page.locator('#dictate[aria-pressed="true"]').waitFor();
  const say = (/** @type {string[]} */ ...heard) =>
    page.evaluate((heard) => {
      const { recognition } = /** @type {any} */ (globalThis);
      recognition.say(...heard);
      return [recognition.lang, recognition.processLocally];
    }, heard);
  assert.deepEqual(await say("where is"), ["en-US", true]);
  await say("where is", " the bee");
  assert.equal(await field.inputValue(), "Tell me: where is the bee");
  await button.click();
  await page.locator('#dictate[aria-pressed="false"]').waitFor();
  await button.click();
  await page.evaluate(() => {
    const { recognition } = /** @type {any} */ (globalThis);
    recognition.dispatchEvent(Object.assign(new Event("error"), { error: "not-allowed" }));
    recognition.stop();
  });
  await page.getByText("May this page use the microphone?").waitFor();
  assert.equal(await field.inputValue(), "Tell me: where is the bee");

  await page.evaluate(() => sessionStorage.setItem("server", "yes"));
  await page.reload();
  await page.locator("#samples button").first().waitFor();
  assert.equal(await button.count(), 0);
});
