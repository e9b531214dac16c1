/** What the page says in English, beside what stands in `index.html`. */
export const en = {
  // The model.
  atAddress: "Another, by its address",
  fromHub: "From the Hugging Face Hub",
  onThisComputer: "Files on this computer",
  folderOnThisComputer: "A folder on this computer",
  ready: (name: string, device: string) => `${name} is ready on ${device}.`,
  reading: (file: string) => `Reading ${file}`,
  downloading: (file: string) => file,
  converting: (file: string) => `Fetching and converting ${file}`,
  verifying: (file: string) => `${file}, kept from last time`,
  uploading: "Handing the last of it to the device",
  compiling: "Preparing the device",
  amount: (loaded: string, total: string) => `${loaded} of ${total}`,
  perSecond: (speed: string) => `${speed}/s`,
  left: (time: string) => `${time} left`,
  paused: (amount: string) => `Paused at ${amount}. What has come is kept.`,
  resume: "Resume",
  pause: "Pause",
  useCpu: "Use the CPU instead",
  loadAgain: "Load the model again",
  recovering: "The GPU went away. Loading the model again; the conversation is kept.",
  checking: "Asking the device for room",
  otherChosen: (name: string) =>
    `${name} is loaded. What is chosen here is loaded with your next question, or by Load.`,
  photoModels: "Models that know photographs",
  /** By the names of the catalogue, which says it in English. */
  publishedGoodAt: {} as Readonly<Record<string, string>>,
  publishedNeeds: (fetched: string, quantization: string, kept: string, memory: string) =>
    `${fetched} to fetch, converted to ${quantization}: ${kept} to keep, ${memory} on the GPU with a conversation.`,
  fits: "It fits.",
  tooLarge: "Too large.",
  noPhotoModels: "This site offers none. One on your computer can be chosen above.",

  // Before another host is asked.
  askHost: (host: string) => `Ask ${host} for a model?`,
  addressIs: (address: string) => `The model's address is ${address}`,
  listedAs: (name: string, amount: string) =>
    amount ? `This site lists it as ${name}, ${amount}.` : `This site lists it as ${name}.`,
  hostLearns: (host: string) =>
    `${host} is another site. It learns your network address, your browser and that this site sent you, but no picture and no question.`,
  descriptionFirst: "Only its description is fetched first. You are asked again before the rest.",
  askIt: "Ask that site",
  comesFrom: (host: string) => `It comes from ${host}, which is not this site.`,

  // Before a large download, or one from another host.
  beforeDownload: (name: string, amount: string) => `${name}: ${amount} to download`,
  beforeDownloadUnsized: (name: string) => `${name}: to download, of unknown size`,
  downloadAndLoad: "Download and load",
  partKept: (amount: string) => `${amount} of it are kept here already.`,
  computes: (device: string) => `It will run on ${device}.`,
  roomGranted: "There is room for its weights and a conversation.",
  cpuIsSlow: "Without WebGPU a model of this size takes minutes for an answer.",
  storageEnough: (free: string) => `The browser can keep it for the next visit: ${free} are free.`,
  storageShort: (free: string) =>
    `The browser has ${free} free, which is too little to keep it: the next visit downloads it again.`,
  storageUnknown: "The browser does not say how much it can keep.",

  // Before a checkpoint is converted.
  conversionFetches: (amount: string, host: string) =>
    `${amount} are fetched from ${host} and its storage, converted in this tab, and not kept.`,
  conversionGoesOn: (amount: string) =>
    `${amount} were fetched before; what they became is kept here already.`,
  conversionKeeps: (amount: string) => `The result, ${amount}, is kept in this browser.`,
  conversionNeeds: (amount: string) =>
    `Its weights take ${amount} of the GPU's memory, and a conversation some more.`,
  conversionTakes: (speed: string, time: string) =>
    `At the rate just measured, ${speed}/s, it takes at least ${time}.`,
  conversionTimeUnknown: "How long it takes can't be said yet.",
  conversionLicense: (license: string) =>
    `The weights stand under the licence that their repository states: ${license}.`,
  conversionUnlicensed: "Their repository states no licence for the weights.",
  conversionPauses: "You may close this tab meanwhile: the next visit goes on.",

  // What is kept.
  keptNothing: "Nothing is kept.",
  keptWhole: (size: string, when: string) => `${size}, last used ${when}`,
  keptPart: (size: string) => `${size}, not all of it`,
  keptRoom: (used: string, quota: string) =>
    `This site uses ${used} of the ${quota} that the browser grants.`,
  remove: "Remove",
  removeOne: (name: string) => `Remove ${name}`,
  removed: (name: string) => `${name} was removed.`,

  // The conversation.
  suggestions: ["Describe this in detail.", "What is unusual here?", "What happens, step by step?"],
  theCamera: "the live picture",
  theFile: "the file",
  trim: "Trim",
  seeAsModel: (name: string) => `See ${name} as the model did`,
  decoding: (frame: number, of: number) => `Decoding frame ${frame} of ${of}`,
  encoding: "Encoding",
  encodingOf: (index: number, of: number) => `Encoding ${index} of ${of}`,
  readingQuestion: "Reading the question",
  stopped: "Stopped.",
  answered: (text: string) => `Answer: ${text}`,
  saidNothing: "The model said nothing: try other words.",
  usage: (tokens: number, visual: number, out: number, seconds: string) =>
    `${tokens} tokens in${visual > 0 ? ` (${visual} visual)` : ""}, ${out} out, first after ${seconds} s`,
  tokensPerSecond: (speed: string) => `${speed} tokens/s`,
  knowsEmoji: (name: string) =>
    `${name} knows emoji alone, as in the samples. What it says of a photograph is wrong.`,
  readBefore: (pictures: number) =>
    pictures === 1
      ? "Before this question the model had read a picture or clip of an earlier one:"
      : `Before this question the model had read ${pictures} pictures and clips of earlier ones:`,
  droppedTurns: (turns: number) =>
    turns === 1
      ? "The conversation was full: its oldest turn was left out."
      : `The conversation was full: its ${turns} oldest turns were left out.`,
  playFrom: (time: string) => `Show the clip at ${time}`,
  clipPlayer: "The clip",
  answerOf: (number: number, of: number) => `${number} of ${of}`,
  earlierAnswer: "The earlier answer",
  laterAnswer: "The later answer",
  copy: "Copy",
  copied: "Copied",
  retry: "Ask again",
  edit: "Edit",
  readAloud: "Read aloud",
  readAnswer: "Read aloud: this answer",
  copyAnswer: "Copy the answer",
  link: "Link",
  copyLink: "Copy a link to this question and the settings, without pictures",
  retryQuestion: "Ask again: this question",
  editQuestion: "Edit this question",
  askAlone: "Ask without them",
  newConversation: "New conversation",
  begun: "A new conversation. The one before is in the list.",
  openElsewhere: (title: string) => `“${title}” is open in another tab.`,
  restored: (turns: number) =>
    `${turns} ${turns === 1 ? "turn" : "turns"} from last time. The model reads them again with your next question.`,
  notKept: "This conversation can't be kept for the next visit: the browser has no room for it.",
  notKeptPrivate:
    "This conversation can't be kept for the next visit: the browser stores nothing here, as in a private window.",

  // The list of conversations.
  noConversations: "None yet.",
  nothingFound: "Nothing is found.",
  renameOne: (title: string) => `Rename “${title}”`,
  deleteOne: (title: string) => `Delete “${title}”`,
  conversationName: "Name of the conversation",
  deleted: (title: string) => `“${title}” was deleted.`,

  // Token maps.
  stage: "Stage of merging",
  stageOf: (stage: number, tokens: number, patches: number) =>
    `Stage ${stage}: ${patches} patches became ${tokens} tokens`,
  rolling: "As the model would read it now",
  frameAt: (time: string, event: number) => `Frame at ${time}, event ${event}`,
  event: (number: number, times: string) => `Event ${number}: ${times}`,
  span: (from: string, to: string) => `${from} to ${to}`,
  eventTokens: (frames: number, tokens: number) =>
    `${frames} ${frames === 1 ? "frame" : "frames"} merged into ${tokens} tokens`,
  allPatches: "All patches",
  tokens: (count: string) => `${count} tokens`,

  // Merged tokens under the pointer.
  merged: (patches: number, tokens: number) => `${patches} patches became ${tokens} tokens.`,
  cropped: "The dimmed edges are not seen.",
  pointAtToken: "Point at a token to see its patches.",
  litToken: (token: number, of: number, patches: number) =>
    `Token ${token} of ${of} stands for ${patches} ${patches === 1 ? "patch" : "patches"}.`,
  arrowKeys: "Arrow keys walk over the patches.",
  timeline: "Frames in order of time, coloured by event",

  // Metrics.
  noMetrics: "They come with the first answer.",
  adapter: "Adapter",
  firstToken: "First token after",
  speed: "Speed",
  visualTokens: "Visual tokens",
  memoryGpu: "GPU memory",
  memoryWasm: "Memory of the module",
  context: "Conversation",
  contextOf: (used: number, capacity: number) => `${used} of ${capacity} tokens`,
  seconds: (seconds: string) => `${seconds} s`,
  plot: (name: string, values: string) => `${name}, answer by answer: ${values}`,
  benchmarking: (round: number, of: number) => `Round ${round} of ${of}`,
  benchmarkDone: "Done.",

  // Settings.
  modelsOwn: "the model's own",

  // Errors: what it means, before what the library says.
  errors: {
    "bad-file": "That is no model that this page can read.",
    "bad-metadata": "That is no model that this page can run.",
    "missing-tensor": "A part of the model is missing.",
    "wrong-shape": "A part of the model does not fit the rest.",
    "unsupported-type": "The model is stored in a way that this page can't read.",
    "bad-tokenizer": "The model's vocabulary can't be read.",
    "wrong-hash": "A file is not the one that the model's manifest promises.",
    "bad-image": "That picture can't be read.",
    "bad-video": "That clip can't be read.",
    "bad-request": "That can't be done.",
    "context-overflow": "The conversation has become too long for the model.",
    "no-gpu":
      "There is no WebGPU here. A current Chrome, Edge, Safari or Firefox has it; on Linux it may have to be enabled in the browser's flags.",
    "device-lost": "The GPU went away.",
    "out-of-memory":
      "There is not enough memory for this. A smaller model, or a shorter context, may fit.",
    gpu: "The GPU refused.",
    io: "A file did not arrive.",
    internal: "Something is wrong with this page.",
  },
  failed: "Something went wrong.",
};
