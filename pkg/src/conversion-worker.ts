/** The entry of workers that convert checkpoints. */
import { conversionHost } from "./conversion/host.js";
import { type Port, serve } from "./rpc.js";

serve(globalThis as unknown as Port, conversionHost);
