/**
 * One value of every message, with the positions it must have on the wire, written by hand. The
 * bytes are in golden.json. Byte strings are fills so that a misplaced field shows.
 */

import { LIST_CACHE_SERVERS, LIST_OVERLAYS } from "../../src/protocol/admin.ts";
import type { Field, Fields, Message } from "../../src/protocol/codec.ts";
import { encodeIndexFile, type IndexFileBody } from "../../src/protocol/index-file.ts";
import * as r1 from "../../src/protocol/r1.ts";
import * as r2 from "../../src/protocol/r2.ts";
import * as r5 from "../../src/protocol/r5.ts";
import * as r6 from "../../src/protocol/r6.ts";
import * as r8 from "../../src/protocol/r8.ts";
import * as r10 from "../../src/protocol/r10.ts";
import { FAILURE, type Operation } from "../../src/protocol/signalling.ts";

export const fill = (byte: number, count: number): Uint8Array => new Uint8Array(count).fill(byte);
const hexFill = (byte: number, count: number): string =>
  byte.toString(16).padStart(2, "0").repeat(count);

export interface Sample {
  readonly name: string;
  readonly message: Message<Record<string, Field<unknown>>>;
  readonly value: Record<string, unknown>;
  readonly positions: readonly unknown[];
}

const rows: Sample[] = [];

function sample<F extends Fields>(
  message: Message<F>,
  value: Record<string, unknown>,
  positions: readonly unknown[],
): void {
  rows.push({
    name: message.name,
    message: message as unknown as Sample["message"],
    value,
    positions,
  });
}

function both(
  operation: unknown,
  request: [Record<string, unknown>, readonly unknown[]],
  answer: [Record<string, unknown>, readonly unknown[]],
): void {
  const { request: asked, answer: answered } = operation as Operation;
  sample(asked, ...request);
  sample(answered, ...answer);
}

const tag = fill(0x7a, 8);
const overlayId = hexFill(0x0f, 16);
const overlay = fill(0x0f, 16);
const peerId = hexFill(0x1e, 32);
const peer = fill(0x1e, 32);
const key = fill(0x2d, 32);
const nonce = fill(0x3c, 32);
const signature = fill(0x4b, 64);
const token = fill(0x5a, 16);
const candidates = [
  { transport: "tcp", host: "192.0.2.7", port: 7901 },
  { transport: "ws", host: "2001:db8::7", port: 443 },
];
const candidateWire = [
  ["tcp", "192.0.2.7", 7901],
  ["ws", "2001:db8::7", 443],
];
const kinds = [
  { transport: "tcp", host: "192.0.2.7", port: 7901, kind: 1 },
  { transport: "ws", host: "2001:db8::7", port: 443, kind: 2 },
];
const kindsWire = [
  ["tcp", "192.0.2.7", 7901, 1],
  ["ws", "2001:db8::7", 443, 2],
];
const members = [{ peerId, role: 0, candidates: kinds, reach: 1 }];
const memberWire = [[peer, 0, kindsWire, 1]];

sample(
  r10.HELLO,
  {
    step: 1,
    versionMin: 1,
    version: 1,
    overlayId,
    sessionEpoch: 3,
    role: 1,
    publicKey: key,
    nonce,
    ticket: new Uint8Array(0),
    binding: new Uint8Array(0),
    listen: candidates,
    agent: "mp2p/0.1.0",
    signature,
  },
  [
    1,
    1,
    1,
    overlay,
    3,
    1,
    key,
    nonce,
    fill(0, 0),
    fill(0, 0),
    candidateWire,
    "mp2p/0.1.0",
    signature,
  ],
);
sample(r10.PARTNER, { tag, mask: 0xff, from: 4_294_967_296, until: 300 }, [
  tag,
  0xff,
  4_294_967_296,
  300,
]);
sample(
  r10.ACCEPT,
  { tag, mask: 3, depths: Uint8Array.of(1, 2, 3, 255), open: 5, wanted: 0x8000_0003, spare: 12 },
  [tag, 3, Uint8Array.of(1, 2, 3, 255), 5, 0x8000_0003, 12],
);
sample(r10.NOTIFY, { tag, index: 70_000 }, [tag, 70_000]);
sample(r10.REFRESH, { tag }, [tag]);
sample(r10.BUSY, { tag, first: 128, count: 16, retryAfterMs: 500 }, [tag, 128, 16, 500]);
sample(r10.BYE, { tag, code: "CLOSED", detail: "done" }, [tag, "CLOSED", "done"]);
sample(r10.ERROR, { code: "FRAME_MALFORMED", detail: "wrong magic" }, [
  "FRAME_MALFORMED",
  "wrong magic",
]);

sample(
  FAILURE,
  { code: "OVERLAY_GONE", detail: "removed", retryAfterMs: 0, whenUs: 1_700_000_000_000_000 },
  ["OVERLAY_GONE", "removed", 0, 1_700_000_000_000_000],
);

const serviceKey = fill(0x5e, 32);
both(
  r1.REGISTER_OVERLAY,
  [
    { overlayId, omsUrl: "ws://192.0.2.1:7900", serviceKey },
    [overlay, "ws://192.0.2.1:7900", serviceKey],
  ],
  [{ reportIntervalMs: 10_000 }, [10_000]],
);
both(r1.REMOVE_OVERLAY, [{ overlayId, serviceKey }, [overlay, serviceKey]], [{}, []]);
both(
  r1.PEER_LIST,
  [
    {
      overlayId,
      activity: 1,
      maxPeers: 20,
      order: 2,
      serviceKey,
      holding: 77,
      maxLagMs: 5_000,
      minSpareBytesPerSecond: 100_000,
      exclude: [peerId],
    },
    [overlay, 1, 20, 2, serviceKey, 77, 5_000, 100_000, [peer]],
  ],
  [
    {
      peers: [
        {
          peerId,
          role: 1,
          activity: 1,
          silentMs: 900,
          heldStart: 5,
          heldEnd: 300,
          missing: 2,
          lagMs: 40,
          contributionPermille: 333,
          rateBytesPerSecond: 1_250_000,
          uploadBytesPerSecond: 700_000,
          spareBytesPerSecond: 1_300_000,
          links: 6,
        },
      ],
      matching: 11,
      registered: 30,
    },
    [[[peer, 1, 1, 900, 5, 300, 2, 40, 333, 1_250_000, 700_000, 1_300_000, 6]], 11, 30],
  ],
);

const status = {
  overlayId,
  peerId,
  event: 1,
  start: 5,
  haveEnd: 300,
  missing: 2,
  fragmentsHeld: 290,
  bytesFromSource: 5_000_000_000,
  bytesFromPeers: 1_000,
  bytesToPeers: 2_000,
  lagMs: 40,
  links: 6,
  rateBytesPerSecond: 1_250_000,
  known: 305,
  lost: 9,
  uploadBytesPerSecond: 700_000,
  uploadLimitBytesPerSecond: 2_000_000,
  cause: 6,
  neighbours: [{ peerId, bytesFrom: 800, bytesTo: 1_500 }],
};
const statusWire = [
  overlay,
  peer,
  1,
  5,
  300,
  2,
  290,
  5_000_000_000,
  1_000,
  2_000,
  40,
  6,
  1_250_000,
  305,
  9,
  700_000,
  2_000_000,
  6,
  [[peer, 800, 1_500]],
];
both(
  r2.REGISTER_PEER,
  [
    { overlayId, peerId, role: 2, nonce, publicKey: key, signature },
    [overlay, peer, 2, nonce, key, signature],
  ],
  [{ reportIntervalMs: 5_000, peerToken: token }, [5_000, token]],
);
both(r2.REPORT, [{ ...status, peerToken: token }, [...statusWire, token]], [{}, []]);
both(r2.REMOVE_PEER, [{ overlayId, peerId, peerToken: token }, [overlay, peer, token]], [{}, []]);
both(r2.PAMS_CHALLENGE, [{}, []], [{ nonce }, [nonce]]);
both(
  r1.PEER_STATUS,
  [{ overlayId, peerId, serviceKey, ask: true }, [overlay, peer, serviceKey, true]],
  [
    { role: 1, activity: 1, silentMs: 900, contributionPermille: 333, reports: [status] },
    [1, 1, 900, 333, [statusWire]],
  ],
);
both(r2.STATUS, [{ overlayId, peerId }, [overlay, peer]], [status, statusWire]);

both(r5.CHALLENGE, [{}, []], [{ nonce }, [nonce]]);
both(
  r5.CREATE,
  [
    {
      nonce,
      publicKey: key,
      signature,
      candidates: kinds,
      title: "weather",
      pams: true,
      leaseMs: 60_000,
      peerList: [],
    },
    [nonce, key, signature, kindsWire, "weather", true, 60_000, []],
  ],
  [
    {
      overlayId,
      sessionEpoch: 1,
      refreshMs: 60_000,
      ownerToken: token,
      memberToken: fill(0x69, 16),
      pamsUrl: "",
      reportIntervalMs: 10_000,
    },
    [overlay, 1, 60_000, token, fill(0x69, 16), "", 10_000],
  ],
);
both(
  r5.REFRESH_OVERLAY,
  [{ overlayId, ownerToken: token, candidates: kinds }, [overlay, token, kindsWire]],
  [{ refreshMs: 60_000, reach: 1 }, [60_000, 1]],
);
both(r5.REMOVE_SESSION_OVERLAY, [{ overlayId, ownerToken: token }, [overlay, token]], [{}, []]);
both(
  r5.RESTART,
  [{ overlayId, ownerToken: token }, [overlay, token]],
  [{ sessionEpoch: 2, refreshMs: 60_000 }, [2, 60_000]],
);
both(
  r5.TAKE_OVER,
  [{ overlayId, nonce, signature, candidates: kinds }, [overlay, nonce, signature, kindsWire]],
  [
    {
      sessionEpoch: 2,
      refreshMs: 60_000,
      ownerToken: token,
      memberToken: fill(0x69, 16),
      pamsUrl: "",
      reportIntervalMs: 10_000,
    },
    [2, 60_000, token, fill(0x69, 16), "", 10_000],
  ],
);
both(
  r5.JOIN,
  [
    { overlayId, nonce, publicKey: key, signature, candidates: kinds, role: 1, exclude: [peerId] },
    [overlay, nonce, key, signature, kindsWire, 1, [peer]],
  ],
  [
    {
      leaseMs: 30_000,
      memberToken: token,
      sessionEpoch: 1,
      pamsUrl: "ws://192.0.2.1:7900",
      reportIntervalMs: 10_000,
      members,
    },
    [30_000, token, 1, "ws://192.0.2.1:7900", 10_000, memberWire],
  ],
);
both(
  r5.MEMBER_REFRESH,
  [
    { overlayId, peerId, memberToken: token, candidates: undefined, heldStart: 7, heldEnd: 90 },
    [overlay, peer, token, null, 7, 90],
  ],
  [{ leaseMs: 30_000, sessionEpoch: 1, reach: 2 }, [30_000, 1, 2]],
);
both(
  r5.LIST_PEERS,
  [
    { overlayId, peerId, memberToken: token, maxPeers: 8, exclude: [], holding: 77 },
    [overlay, peer, token, 8, [], 77],
  ],
  [{ members }, [memberWire]],
);
both(r5.LEAVE, [{ overlayId, peerId, memberToken: token }, [overlay, peer, token]], [{}, []]);

export const indexFile: IndexFileBody = {
  formatVersion: 1,
  version: 4,
  title: "Seattle weather",
  omsAddress: "ws://192.0.2.1:7900",
  overlayId,
  sessionEpoch: 1,
  dataSourceId: "temperature",
  dataId: "hourly",
  fragmentBytes: 16_384,
  description: "Hourly normals",
  integrity: "checksum",
  delivery: "complete",
  maxLagMs: 10_000,
  substreams: 8,
  sourcePublicKey: key,
  createdUs: 1_700_000_000_000_000,
};
export const indexFilePositions: readonly unknown[] = [
  1,
  4,
  "Seattle weather",
  "ws://192.0.2.1:7900",
  overlay,
  1,
  "temperature",
  "hourly",
  16_384,
  "Hourly normals",
  "checksum",
  "complete",
  10_000,
  8,
  key,
  1_700_000_000_000_000,
];
export const indexFileSignature = signature;
const encodedFile = encodeIndexFile(indexFile, signature);

both(r6.REGISTER_INDEX, [{ indexFile: encodedFile }, [encodedFile]], [{ version: 4 }, [4]]);
both(r6.UPDATE_INDEX, [{ indexFile: encodedFile }, [encodedFile]], [{ version: 5 }, [5]]);
both(
  r6.REMOVE_INDEX,
  [
    { version: 5, dataSourceId: "temperature", dataId: "hourly", publicKey: key, signature },
    [5, "temperature", "hourly", key, signature],
  ],
  [{}, []],
);
both(
  r6.QUERY_INDEX,
  [
    { version: 0, title: "Seattle weather", dataSourceId: "", dataId: "", overlayId },
    [0, "Seattle weather", "", "", overlay],
  ],
  [
    {
      files: [encodedFile],
      gone: [{ dataSourceId: "wind", dataId: "hourly", version: 9, whenUs: 1_700_000_000_000_000 }],
      more: false,
    },
    [[encodedFile], [["wind", "hourly", 9, 1_700_000_000_000_000]], false],
  ],
);
both(
  r6.LIST_INDEX,
  [{ prefix: "Sea", limit: 20 }, ["Sea", 20]],
  [
    {
      rows: [
        { title: "Seattle weather", dataSourceId: "wind", dataId: "hourly", version: 4, overlayId },
      ],
      more: false,
    },
    [[["Seattle weather", "wind", "hourly", 4, overlay]], false],
  ],
);

both(r6.OVERLAY_GONE, [{ overlayIds: [overlayId], serviceKey }, [[overlay], serviceKey]], [{}, []]);
const cacheServerId = hexFill(0x69, 32);
const cacheServer = fill(0x69, 32);
both(
  r5.ASK_VIRTUAL_PEERS,
  [{ overlayId, ownerToken: token, virtualPeers: 3, priority: 5 }, [overlay, token, 3, 5]],
  [{ virtualPeers: 3, assigned: 2 }, [3, 2]],
);
both(
  r8.REGISTER_CACHE,
  [
    {
      serviceKey,
      cacheServerId,
      label: "rack 7",
      virtualPeers: [peerId],
      overlaysPerPeer: 4,
      holds: [{ overlayId, peerId }],
      instance: fill(0x78, 8),
    },
    [serviceKey, cacheServer, "rack 7", [peer], 4, [[overlay, peer]], fill(0x78, 8)],
  ],
  [{ leaseMs: 30_000, term: 12, assigned: 300 }, [30_000, 12, 300]],
);
both(
  r8.GIVE_BACK,
  [
    { serviceKey, cacheServerId, overlayId, peerId, code: "ENGINE_MEMORY", detail: "set 96" },
    [serviceKey, cacheServer, overlay, peer, "ENGINE_MEMORY", "set 96"],
  ],
  [{}, []],
);
both(r8.WITHDRAW_CACHE, [{ serviceKey, cacheServerId }, [serviceKey, cacheServer]], [{}, []]);
both(
  r8.ALLOCATE,
  [
    {
      term: 12,
      overlayId,
      peerId,
      title: "weather",
      pamsUrl: "ws://192.0.2.1:7900",
      priority: 5,
    },
    [12, overlay, peer, "weather", "ws://192.0.2.1:7900", 5],
  ],
  [{}, []],
);
both(r8.RELEASE, [{ term: 12, overlayId, peerId, reason: 1 }, [12, overlay, peer, 1]], [{}, []]);
both(
  LIST_CACHE_SERVERS,
  [{ limit: 20, serviceKey, after: peerId }, [20, serviceKey, peer]],
  [
    {
      rows: [
        {
          cacheServerId,
          label: "rack 7",
          linked: true,
          virtualPeers: 4,
          places: 16,
          assigned: 300,
        },
      ],
      more: false,
    },
    [[[cacheServer, "rack 7", true, 4, 16, 300]], false],
  ],
);
both(
  LIST_OVERLAYS,
  [{ limit: 20, serviceKey, after: overlayId }, [20, serviceKey, overlay]],
  [
    {
      rows: [
        {
          overlayId,
          title: "weather",
          sessionEpoch: 1,
          sourcePeerId: peerId,
          createdUs: 1_700_000_000_000_000,
          members: 12,
          inbound: 7,
          outboundOnly: 4,
          pams: true,
        },
      ],
      more: true,
      pamsUrl: "ws://192.0.2.1:7900",
    },
    [
      [[overlay, "weather", 1, peer, 1_700_000_000_000_000, 12, 7, 4, true]],
      true,
      "ws://192.0.2.1:7900",
    ],
  ],
);

export const SAMPLES: readonly Sample[] = rows;
