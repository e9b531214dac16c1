/** The worker's entry: everything that computes runs here. */
import { host } from "./host.js";
import { type Port, serve } from "./rpc.js";

serve(globalThis as unknown as Port, host);
