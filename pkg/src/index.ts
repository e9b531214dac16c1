export { UniviError, type UniviErrorCode } from "./error.js";
