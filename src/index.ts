/** The public API of mp2p-engine. */

export {
  ERRORS,
  type ErrorCode,
  isErrorCode,
  LocalUsageError,
  Mp2pError,
  OperationError,
  RemoteProtocolError,
} from "./base/errors.ts";
export type * from "./host/engine-types.ts";
export { createFeed } from "./host/node-data-feed.ts";
export { createEngine } from "./host/node-engine.ts";
