/*! mediabunny, https://mediabunny.dev: its sources are the npm package of that name, under the Mozilla Public License 2.0. */
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
