/**
 * Which server a signalling message is for, when several roles share one endpoint. Operation types
 * are disjoint per reference point; a failure belongs to the server whose range its request id is
 * from. Looks at the first two elements only and never throws: a message that it can not place is
 * given to any one server, which refuses it.
 */

import { IXS_REQUEST_ID_BASE } from "./ixs.ts";
import { OMS_REQUEST_ID_BASE } from "./oms.ts";
import { PAMS_REQUEST_ID_BASE } from "./pams.ts";

export type ServerName = "oms" | "ixs" | "pams";

/** The server that serves requests of this type; undefined when none does. */
export function serverOf(messageType: number): ServerName | undefined {
  if (messageType >= 0x10 && messageType <= 0x2f) return "pams";
  if (messageType >= 0x40 && messageType <= 0x4f) return "oms";
  if (messageType >= 0x50 && messageType <= 0x5f) return "ixs";
  // What cache servers ask (R8).
  if (messageType >= 0x60 && messageType <= 0x67) return "oms";
  return undefined;
}

/** The server that asked with this request id; undefined when none of them can have. */
export function askerOf(requestId: number): ServerName | undefined {
  const ranges: readonly (readonly [ServerName, number])[] = [
    ["oms", OMS_REQUEST_ID_BASE],
    ["ixs", IXS_REQUEST_ID_BASE],
    ["pams", PAMS_REQUEST_ID_BASE],
  ];
  return ranges.find(([, base]) => requestId >= base && requestId < base + 0x1000_0000)?.[0];
}

/**
 * The server that the message in [offset, offset + bytes) is for: by type for a request, by request
 * id for an answer or failure. Undefined for what is neither.
 */
export function routeOf(memory: Uint8Array, offset: number, bytes: number): ServerName | undefined {
  const end = offset + bytes;
  const lead = memory[offset] ?? 0;
  const at = lead >= 0x92 && lead <= 0x9f ? offset + 1 : lead === 0xdc ? offset + 3 : end;
  const type = readUnsigned(memory, at, end);
  if (type === undefined) return undefined;
  if (type.value < 0x80) return serverOf(type.value);
  const requestId = readUnsigned(memory, type.next, end);
  return requestId === undefined ? undefined : askerOf(requestId.value);
}

/** The unsigned msgpack integer of at most 32 bits at `at`. */
function readUnsigned(
  memory: Uint8Array,
  at: number,
  end: number,
): { value: number; next: number } | undefined {
  const lead = at < end ? (memory[at] as number) : 0xff;
  if (lead <= 0x7f) return { value: lead, next: at + 1 };
  const size = lead === 0xcc ? 1 : lead === 0xcd ? 2 : lead === 0xce ? 4 : 0;
  if (size === 0 || at + 1 + size > end) return undefined;
  let value = 0;
  for (let i = 1; i <= size; i++) value = value * 256 + (memory[at + i] as number);
  return { value, next: at + 1 + size };
}
