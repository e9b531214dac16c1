/*! mediabunny, https://mediabunny.dev: its sources are the npm package of that name, under the Mozilla Public License 2.0. */
import { Logging, LogLevel } from "mediabunny";

/**
 * What is used of mediabunny. The build puts it into this one file, so that it is fetched with the
 * first clip and found without a bundler, too.
 */
export {
  BlobSource,
  EncodedPacketSink,
  Input,
  type InputVideoTrack,
  MATROSKA,
  MP4,
  MPEG_TS,
  QTFF,
  type Source,
  UrlSource,
  type VideoSample,
  VideoSampleSink,
  WEBM,
} from "mediabunny";

// What matters of a file is said by who opens it; edit lists are read here, too.
Logging.level = LogLevel.Errors;
