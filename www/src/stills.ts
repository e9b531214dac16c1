/** Pictures of a clip at given times, for looking at. */

/**
 * Seeks `file` to each of `times` and yields what is shown there. Ends early where `signal` or the
 * decoder says so.
 */
export async function* stills(
  file: File,
  times: readonly number[],
  signal: AbortSignal,
): AsyncGenerator<[index: number, picture: ImageBitmap]> {
  const url = URL.createObjectURL(file);
  const video = document.createElement("video");
  try {
    video.muted = true;
    video.src = url;
    if (!(await arrives(video, "loadeddata"))) return;
    for (const [index, time] of times.entries()) {
      video.currentTime = time + 0.0005;
      if (!(await arrives(video, "seeked")) || signal.aborted) return;
      const picture = await createImageBitmap(video).catch(() => undefined); // The decoder has let go of it.
      if (!picture) return;
      yield [index, picture];
    }
  } finally {
    video.removeAttribute("src");
    video.load();
    URL.revokeObjectURL(url);
  }
}

function arrives(video: HTMLVideoElement, event: string): Promise<boolean> {
  return new Promise((resolve) => {
    video.addEventListener(event, () => resolve(true), { once: true });
    video.addEventListener("error", () => resolve(false), { once: true });
  });
}
