/**
 * P1.3: a source peer asks the OMS of its overlay for virtual peers of cache servers. Said once, and
 * again until the OMS has it on its disk; then it is the OMS's to find room. A session without them
 * is none the worse, so nothing here ever ends one.
 */

import type { Address } from "../../base/machine.ts";
import type { OverlayId } from "../../base/units.ts";
import { ASK_VIRTUAL_PEERS } from "../../protocol/r5.ts";
import type { AnswerOf, RequestOf } from "../../protocol/signalling.ts";
import type { ServerFailure } from "./server-client.ts";

export interface WishHost {
  ask(
    server: Address,
    operation: typeof ASK_VIRTUAL_PEERS,
    request: RequestOf<typeof ASK_VIRTUAL_PEERS>,
    done: (answer: AnswerOf<typeof ASK_VIRTUAL_PEERS>) => void,
    failed: (failure: ServerFailure) => void,
  ): void;
  again(retryAfterMs: number, action: () => void): void;
  isRetryable(failure: ServerFailure): boolean;
  note(text: string): void;
}

export interface VirtualPeersWish {
  readonly count: number;
  /** 0 to 7; 0 gives way to all others. */
  readonly priority: number;
}

/** `owned`: the overlay, and the token of whoever created it. */
export function askVirtualPeers(
  host: WishHost,
  oms: Address,
  owned: { readonly overlayId: OverlayId; readonly ownerToken: Uint8Array },
  wish: VirtualPeersWish,
): void {
  const { overlayId, ownerToken } = owned;
  const request = { overlayId, ownerToken, virtualPeers: wish.count, priority: wish.priority };
  host.ask(
    oms,
    ASK_VIRTUAL_PEERS,
    request,
    ({ virtualPeers, assigned }) => {
      const later = assigned < virtualPeers ? "; more when cache servers have room" : "";
      host.note(`${assigned} of ${virtualPeers} virtual peers assigned${later}`);
    },
    (failure) => {
      if (host.isRetryable(failure)) {
        host.again(failure.retryAfterMs, () => askVirtualPeers(host, oms, owned, wish));
      } else host.note(`no virtual peers: ${failure.code} ${failure.detail}`);
    },
  );
}
