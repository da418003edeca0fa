/**
 * A peer's session (P0.2): the newest index file first (R6), then the members of the overlay it
 * names (R5), links to some of them (R10), reports (R2), and leaving (P3.4).
 *
 * A title that is not registered yet is waited for. An index file is believed only with the
 * signature of the key it names, and never an older version than one seen before. Membership is
 * refreshed at a third of its lease; an OMS that forgot this member (it restarted) is joined again.
 *
 * Without END and without the source peer, or when the OMS tells of a later epoch, it looks for a
 * successor (the source peer was killed and started over). What there is of the present epoch is
 * taken first; then this node goes on there, and says how far it came here.
 */

import { type Address, parseAddress } from "../../base/machine.ts";
import { type OverlayId, type PeerId, toHex } from "../../base/units.ts";
import { ROLES, type Role } from "../../protocol/common.ts";
import {
  decodeIndexFile,
  type IndexFile,
  type ReceivedIndexFile,
} from "../../protocol/index-file.ts";
import type { Member } from "../../protocol/r5.ts";
import { JOIN, joinProof, LEAVE, LIST_PEERS, MEMBER_REFRESH } from "../../protocol/r5.ts";
import { QUERY_INDEX } from "../../protocol/r6.ts";
import type { PeerEvent } from "../commands.ts";
import type { PeerContext } from "../context.ts";
import type { StartFrom } from "../settings.ts";
import { KnownMembers, LINKS_WANTED, listAgainMs, oneMoreLink } from "./known-members.ts";
import { LastRefusal, type ServerFailure } from "./server-client.ts";
import { SessionBase, type SessionOutlet, sameAddress } from "./session-base.ts";
import type { JoinSession } from "./session-types.ts";
import { fileSettings, lostText, Successor, type SuccessorHost } from "./successor.ts";
import { verifyIndexFile } from "./verify-index.ts";

const QUERY_AGAIN_MS = 400;
const SOURCE_GONE_MS = 300;
/** Without a link to the OMS the membership is looked after within this, then this often. */
const REFRESH_SOON_MS = 1_000;
const REFRESH_AGAIN_MS = 2_000;
const TERMINATION_MS = 3_000;

export class JoiningSession extends SessionBase {
  readonly #options: JoinSession;
  readonly #members: KnownMembers;
  #waitUntilMs = 0;
  readonly #refusal = new LastRefusal();
  #highestVersion = 0;
  #file: IndexFile | undefined;
  #oms: Address | undefined;
  #memberToken: Uint8Array = new Uint8Array(0);
  /** The OMS that lists this member. */
  #joinedAt: Address | undefined;
  #leaseMs = 0;
  #sourcePeerId: PeerId = "";
  #leaving = false;
  readonly #next: Successor;
  #sessionEpoch = 0;
  /** The OMS told of a later epoch: the source peer of this one is of no use any more. */
  #isPast = false;
  /** Where the source goes on, once known. */
  #successor: IndexFile | undefined;
  /** Joining the successor. */
  #moving = false;
  /** Was linked to the source peer, or refused because it has links enough. */
  #metSource = false;
  #linksWanted = LINKS_WANTED;

  constructor(context: PeerContext, outlet: SessionOutlet, options: JoinSession) {
    super(context, outlet, options.sessionId);
    this.#options = options;
    const { rng, identity, distanceTo } = context;
    this.#members = new KnownMembers(rng, identity.peerId, distanceTo);
    this.#next = new Successor(context, this.#lookOutlet());
  }

  protected override get claimed(): OverlayId | undefined {
    return this.#leaving ? undefined : this.#file?.overlayId;
  }

  get #role(): Role {
    return this.#options.virtualIn === undefined ? ROLES.peer : ROLES.virtual;
  }

  override start(): void {
    this.#waitUntilMs = this.context.now.monoMs + this.#options.waitMs;
    this.#query();
  }

  override observe(event: PeerEvent): void {
    this.reportEvent(event, this.#sourcePeerId);
    if (event.kind === "needMembers") {
      this.#linksWanted = oneMoreLink(this.#linksWanted);
      this.#listSoon(0, event.holding);
    } else if (event.kind === "neighbour" && event.state === "down") {
      this.#dialMore();
      this.#sourceMayBeGone(event.peerId === this.#sourcePeerId ? event.detail : undefined);
      // Without the source peer it is worth knowing soon whether the session goes on.
      if (event.peerId === this.#sourcePeerId) this.#listSoon(SOURCE_GONE_MS, undefined);
    } else if (event.kind === "neighbour" && event.state === "up") {
      this.#members.linked(event.peerId);
      this.#metSource ||= event.peerId === this.#sourcePeerId;
    } else if (event.kind === "linkFailed") {
      this.#members.failed(event.address, event.code);
      this.noteFailure(event);
      this.#metSource ||= event.code === "TOO_MANY_LINKS";
      this.#dialMore();
    } else if (event.kind === "misled") {
      this.openAnew("the first neighbours named a place where nothing is: starting again");
      this.#listSoon(0, undefined);
    } else if (event.kind === "drained") this.#moveOn();
    else if (event.kind === "left") this.leave();
  }

  override leave(): void {
    if (this.#leaving) return;
    this.#leaving = true;
    this.cancel("step");
    this.cancel("refresh");
    this.cancel("members");
    this.leaveOverlay();
    const { overlayId } = this;
    if (this.#joinedAt === undefined || overlayId === undefined) {
      this.finish();
      return;
    }
    this.after("end", TERMINATION_MS, () => this.finish());
    const oms = this.#joinedAt;
    this.stopReports(() => this.#tellLeft(oms, overlayId, () => this.finish()));
  }

  #tellLeft(oms: Address, overlayId: OverlayId, heard: () => void): void {
    const { peerId } = this.context.identity;
    this.ask(oms, LEAVE, { overlayId, peerId, memberToken: this.#memberToken }, heard, heard);
  }

  /** The servers list this member until they hear otherwise, and an overlay may be open still. */
  protected override abandon(): void {
    const { overlayId } = this;
    if (this.#joinedAt === undefined || this.#leaving || overlayId === undefined) return;
    this.#leaving = true;
    this.leaveOverlay();
    this.stopReports(() => undefined);
    this.#tellLeft(this.#joinedAt, overlayId, () => undefined);
  }

  /** An OMS that was started anew knows no members: this one says soon that it is there. */
  protected override lost(server: Address): void {
    if (this.#joinedAt === undefined || this.#leaving || this.#oms === undefined) return;
    if (!sameAddress(server, this.#oms)) return;
    this.after("refresh", this.context.rng.next() * REFRESH_SOON_MS, () => {
      this.#refresh(this.#leaseMs);
    });
  }

  // ------------------------------------------------------------------------------ R6

  #query(): void {
    const { ixs, title, dataSourceId, dataId, virtualIn: overlayId } = this.#options;
    const version = this.#highestVersion;
    this.ask(
      ixs,
      QUERY_INDEX,
      { version, title, dataSourceId, dataId, overlayId },
      (answer) => {
        const received = answer.files.map((encoded) => decodeIndexFile(encoded));
        const overlays = new Map(received.map((entry) => [entry.file.overlayId, entry.file]));
        if (overlays.size > 1) {
          const files = [...overlays.values()];
          const detail = files.map((file) => `${file.dataSourceId}/${file.dataId}`).join(", ");
          this.fail({ code: "TITLE_AMBIGUOUS", detail });
          return;
        }
        const [newest] = received.sort((a, b) => b.file.version - a.file.version);
        if (overlayId !== undefined && newest?.file.overlayId !== overlayId) {
          // An index server of before does not know how to look for an overlay.
          this.#wait({ code: "UNKNOWN_INDEX", detail: overlayId, retryAfterMs: QUERY_AGAIN_MS });
        } else if (newest !== undefined && newest.file.version >= version) this.#verify(newest);
        else this.#wait({ code: "UNKNOWN_INDEX", detail: title, retryAfterMs: QUERY_AGAIN_MS });
      },
      (failure) => this.#wait(failure),
    );
  }

  #verify(received: ReceivedIndexFile): void {
    const { file } = received;
    verifyIndexFile(this.context, received, (valid) => {
      if (this.isOver || this.#leaving) return;
      if (!valid) {
        this.fail({ code: "IDENTITY_UNPROVEN", detail: "index file" });
        return;
      }
      this.#highestVersion = file.version;
      this.#file = file;
      this.#oms = parseAddress(file.omsAddress);
      if (this.#oms === undefined) {
        this.fail({ code: "MESSAGE_MALFORMED", detail: `OMS address ${file.omsAddress}` });
        return;
      }
      this.#join(false);
    });
  }

  /** Waits for what is not there yet, as long as it was told to. */
  #wait(failure: ServerFailure): void {
    if (this.#leaving) return;
    const told = this.#refusal.of(failure);
    const late = this.context.now.monoMs >= this.#waitUntilMs;
    // A session of this title that is gone may be followed by another.
    const hopeless = !SessionBase.isRetryable(failure) && failure.code !== "INDEX_GONE";
    if (late || hopeless) {
      this.fail(told);
      return;
    }
    const { code } = failure;
    if (/^UNKNOWN_|^INDEX_GONE$/.test(code)) {
      this.note(`waiting for "${this.#options.title}" (${code})`);
    } else this.noteRetry(failure);
    const delayMs = Math.max(failure.retryAfterMs, QUERY_AGAIN_MS);
    this.after("step", delayMs * (1 + 0.2 * this.context.rng.next()), () => this.#query());
  }

  // ------------------------------------------------------------------------------ R5

  #join(again: boolean): void {
    const oms = this.#oms as Address;
    const file = this.#file as IndexFile;
    // Before the OMS hears of it: one more membership there would take the place of the first.
    if (this.failedAsTaken(file.overlayId)) return;
    const failed = (failure: ServerFailure): void => {
      if (this.#leaving) return;
      if (this.#moving) this.#movingFailed(failure);
      else if (again) {
        if (failure.code === "OVERLAY_GONE") this.#overlayGone();
        else this.after("refresh", this.backoffMs(failure.retryAfterMs), () => this.#join(true));
      } else if (failure.code === "OVERLAY_GONE") {
        // The index file outlived its overlay: a newer one may come.
        this.#wait({ code: "UNKNOWN_OVERLAY", detail: failure.detail, retryAfterMs: 1_000 });
      } else this.#wait(failure);
    };
    this.prove(
      oms,
      (nonce) => joinProof(nonce, file.overlayId),
      (nonce, signature) => {
        const request = {
          overlayId: file.overlayId,
          nonce,
          publicKey: this.context.identity.publicKey,
          signature,
          candidates: [...this.outlet.listen()],
          role: this.#role,
        };
        this.ask(
          oms,
          JOIN,
          request,
          (answer) => {
            if (this.#leaving) return;
            this.#memberToken = answer.memberToken;
            this.#joinedAt = oms;
            if (again) this.#epochTold(answer.sessionEpoch);
            else if (this.#moving) this.#openNext(file, answer.sessionEpoch);
            else this.#open(file, answer.sessionEpoch, this.#options.from);
            if (this.isOver) return;
            this.#scheduleRefresh(answer.leaseMs);
            if (!again) this.startReports(answer.pamsUrl, oms, this.#role);
            this.#listed(answer.members);
          },
          failed,
        );
      },
      failed,
    );
  }

  #open(file: IndexFile, sessionEpoch: number, from: StartFrom | undefined): boolean {
    this.overlayId = file.overlayId;
    this.#sessionEpoch = sessionEpoch;
    const sourcePeerId = toHex(this.context.sha256(file.sourcePublicKey));
    this.#sourcePeerId = sourcePeerId;
    this.#members.begin(sourcePeerId);
    const opened = this.openOverlay({
      kind: "openOverlay",
      role: this.#options.virtualIn === undefined ? "peer" : "virtual",
      from,
      consume: this.#options.consume ?? true,
      before: this.#next.taken,
      settings: fileSettings(file, sessionEpoch, sourcePeerId, this.#options.node),
    });
    if (!opened || this.#moving) return opened;
    this.outlet.event({
      kind: "sessionOpen",
      sessionId: this.sessionId,
      overlayId: file.overlayId,
      sourcePeerId,
      title: file.title,
    });
    return true;
  }

  #scheduleRefresh(leaseMs: number): void {
    this.#leaseMs = leaseMs;
    const delayMs = (leaseMs / 3) * (1 - 0.1 * this.context.rng.next());
    this.after("refresh", delayMs, () => this.#refresh(leaseMs));
  }

  #refresh(leaseMs: number): void {
    const overlay = this.outlet.overlay(this.overlayId as string);
    const window = overlay?.window;
    this.ask(
      this.#oms as Address,
      MEMBER_REFRESH,
      {
        overlayId: this.overlayId as string,
        peerId: this.context.identity.peerId,
        memberToken: this.#memberToken,
        candidates: undefined,
        heldStart: window?.start ?? 0,
        heldEnd: window === undefined ? 0 : window.firstMissing(window.start, window.highest),
      },
      (answer) => {
        this.noteReach(answer.reach);
        this.#scheduleRefresh(answer.leaseMs);
        this.#epochTold(answer.sessionEpoch);
      },
      (failure) => {
        if (failure.code === "OVERLAY_GONE") {
          this.#overlayGone();
          return;
        }
        const forgotten = !SessionBase.isRetryable(failure) || /^UNKNOWN_/.test(failure.code);
        const delayMs = Math.max(
          failure.retryAfterMs,
          Math.min(this.backoffMs(0), leaseMs / 6, REFRESH_AGAIN_MS),
        );
        this.after("refresh", delayMs, () =>
          forgotten ? this.#join(true) : this.#refresh(leaseMs),
        );
      },
    );
  }

  #overlayGone(): void {
    const { overlayId } = this;
    this.note("the overlay was removed");
    if (overlayId !== undefined && this.outlet.overlay(overlayId) !== undefined) {
      this.outlet.command({ kind: "overlayEnded", overlayId });
    }
  }

  // ------------------------------------------------------------------------------ successor

  /** No END, and no link to the source peer: it may have been killed. */
  #isOrphan(): boolean {
    const overlay = this.overlayId === undefined ? undefined : this.outlet.overlay(this.overlayId);
    if (overlay === undefined || overlay.hasLeft || this.#leaving) return false;
    if (overlay.endIndex !== undefined || overlay.consumer?.ended === true) return false;
    if (this.#isPast) return true;
    return !overlay.neighbours.some((neighbour) => neighbour.isSource);
  }

  #epochTold(sessionEpoch: number): void {
    if (sessionEpoch <= this.#sessionEpoch || this.#isPast || this.#moving) return;
    this.#isPast = true;
    this.#next.look();
  }

  /** Members that never met the source peer see only others go: that counts once a minute. */
  #sourceMayBeGone(lost: string | undefined): void {
    if (lost !== undefined && this.#isOrphan()) this.note(lostText(lost));
    if (this.#isOrphan() && (lost !== undefined || !this.#next.isLooking)) this.#next.look();
  }

  #lookOutlet(): SuccessorHost {
    const session = this;
    return {
      get own() {
        return { file: session.#file as IndexFile, sessionEpoch: session.#sessionEpoch };
      },
      isOrphan: () => !this.isOver && this.#isOrphan(),
      query: (version, { dataSourceId, dataId }, done, failed) => {
        const request = { version, title: "", dataSourceId, dataId };
        this.ask(this.#options.ixs, QUERY_INDEX, request, ({ files }) => done(files), failed);
      },
      after: (delayMs, action) => this.after("step", delayMs, action),
      found: (file, sameKey) => this.#startedOver(file, sameKey),
      gaveUp: () => {
        if (this.#moving) this.#movingFailed({ code: "TIMEOUT", detail: "", retryAfterMs: 0 });
      },
    };
  }

  /** Another key may hold these ids by now: its data are not what this session was joined for. */
  #startedOver(file: IndexFile, sameKey: boolean): void {
    const overlayId = this.overlayId as string;
    const { followsRestarts = true, virtualIn = file.overlayId } = this.#options;
    const movesOn = sameKey && followsRestarts && virtualIn === file.overlayId;
    if (movesOn) this.#successor = file;
    const where = file.overlayId === overlayId ? `epoch ${file.sessionEpoch}` : "another overlay";
    this.note(`the source started over in ${where}`);
    if (this.#moving) this.#moveOn();
    else this.outlet.command({ kind: "overlayEnded", overlayId, startedOver: true, movesOn });
  }

  /** All there is of the epoch before was taken: joins where the source goes on. */
  #moveOn(): void {
    const file = this.#successor;
    if (file === undefined || this.#leaving) return;
    const oms = parseAddress(file.omsAddress);
    if (oms === undefined) {
      this.fail({ code: "MESSAGE_MALFORMED", detail: `OMS address ${file.omsAddress}` });
      return;
    }
    this.#moving = true;
    this.#file = file;
    this.#oms = oms;
    this.#highestVersion = file.version;
    this.cancel("refresh");
    this.cancel("members");
    this.#join(false);
  }

  #movingFailed(failure: Pick<ServerFailure, "code" | "detail" | "retryAfterMs">): void {
    if (!this.#next.isLooking) {
      const detail = `the source started over, and its session can not be joined: ${failure.code}`;
      this.fail({ code: "SESSION_LOST", detail });
    } else if (failure.code === "OVERLAY_GONE") {
      // It started over once more.
      this.#next.again();
    } else {
      this.after("step", this.backoffMs(failure.retryAfterMs), () => this.#moveOn());
    }
  }

  /** Leaves the epoch before and opens the next in one turn, so that the consumer has always one. */
  #openNext(file: IndexFile, sessionEpoch: number): void {
    const overlayId = this.overlayId as string;
    const before = this.#next.leaves(this.outlet.overlay(overlayId), this.#sessionEpoch);
    this.leaveOverlay(true);
    // Whatever this node asked for at first: of what follows it wants all there is.
    const opened = this.#open(file, sessionEpoch, "oldest");
    this.#moving = false;
    this.#isPast = false;
    this.#successor = undefined;
    this.#metSource = false;
    if (!opened) return;
    const to = { sessionId: this.sessionId, overlayId: file.overlayId, sessionEpoch };
    this.outlet.event({ kind: "sessionRestarted", ...to, before });
  }

  // ------------------------------------------------------------------------------ members

  /** Opens links to members until there are enough, and sees to it that there will be. */
  #dialMore(): void {
    const overlay = this.overlayId === undefined ? undefined : this.outlet.overlay(this.overlayId);
    if (overlay === undefined || this.#leaving || overlay.consumer?.ended === true) return;
    const linked = new Set(overlay.neighbours.map((neighbour) => neighbour.peerId));
    const { dial } = this.#options;
    const wish = { linked, links: this.#linksWanted, dial, metSource: this.#metSource };
    for (const { peerId, address } of this.#members.toDial(wish, this.context.now.monoMs)) {
      this.outlet.command({ kind: "dial", overlayId: overlay.settings.overlayId, address, peerId });
    }
    const why = this.#members.whyAlone(wish, this.context.now.monoMs);
    if (why !== undefined) this.note(why);
    this.#listSoon(listAgainMs(linked.size, dial), undefined);
  }

  #listSoon(delayMs: number, holding: number | undefined): void {
    if (this.#joinedAt === undefined || this.#leaving) return;
    this.after("members", delayMs, () => this.#list(holding));
  }

  #list(holding: number | undefined): void {
    const overlay = this.outlet.overlay(this.overlayId as string);
    if (overlay === undefined || overlay.consumer?.ended === true) return;
    this.ask(
      this.#oms as Address,
      LIST_PEERS,
      {
        overlayId: this.overlayId as string,
        peerId: this.context.identity.peerId,
        memberToken: this.#memberToken,
        maxPeers: 20,
        exclude: overlay.neighbours.slice(0, 64).map((neighbour) => neighbour.peerId),
        holding,
      },
      (answer) => this.#listed(answer.members, holding !== undefined),
      (failure) => {
        if (failure.code === "OVERLAY_GONE") this.#overlayGone();
        // Without the OMS too: those known may be back.
        else this.#dialMore();
        this.#listSoon(listAgainMs(0) * (1 + this.context.rng.next()), holding);
      },
    );
  }

  #listed(members: readonly Member[], isPart = false): void {
    this.#members.learn(members, this.outlet.listen(), isPart);
    this.#dialMore();
  }
}
