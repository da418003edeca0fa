/** What the drivers of the real peer machine have in common: who it is, what it tells and shows. */

import { LINK_QUEUE_BYTES_MAX } from "../base/limits.ts";
import { toHex } from "../base/units.ts";
import type { PeerEvent } from "../peer/commands.ts";
import type { PeerIdentity } from "../peer/context.ts";
import type { Overlay } from "../peer/overlay.ts";
import type { Consumer } from "./consumer.ts";
import type { Inspection, Member, Swarm } from "./swarm.ts";

export function identityOf(
  publicKey: Uint8Array,
  sha256: (bytes: Uint8Array) => Uint8Array,
): PeerIdentity {
  const peerIdBytes = sha256(publicKey);
  return { peerId: toHex(peerIdBytes), peerIdBytes, publicKey };
}

/** Tells consumer and swarm how far a member came; links and members are its driver's business. */
export function tellSwarm(swarm: Swarm, member: Member, consumer: Consumer, told: PeerEvent): void {
  switch (told.kind) {
    case "readable":
      consumer.wake(0);
      return;
    case "left":
      consumer.stop();
      return;
    case "started":
      swarm.memberStarted(member, told.index);
      return;
    case "gap": {
      const { gap } = told;
      const sourceId = gap.kind === "data" ? gap.sourceId : undefined;
      swarm.gap(member, { kind: gap.kind, sourceId, from: gap.from, to: gap.to });
      return;
    }
    case "ended":
      swarm.memberEnded(member);
      return;
    case "failed":
      swarm.world.violate("session", `${member.name} fails: ${told.code} ${told.detail}`);
      return;
  }
}

export function inspectionOf({ window }: Overlay): Inspection {
  return {
    held: (index) => window.holds(index),
    start: window.start,
    limit: window.limit,
    heldCount: window.heldCount,
    heldBytes: window.heldBytes,
    windowFragments: window.windowFragments,
    windowBytes: window.windowBytes,
    linkQueueBytesMax: LINK_QUEUE_BYTES_MAX,
  };
}
