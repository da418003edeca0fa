/** What `mp2p status` shows to people: a heading and a table for each session. */

import type { CacheServerStatus, OverlayStatus, PeerStatusFound } from "../host/status-client.ts";
import { printable } from "./printable.ts";
import { bytesText, count, countText, secondsText } from "./units.ts";

const ID_DIGITS = 12;
const UNLIMITED = Number.MAX_SAFE_INTEGER;
const SOURCE = 0;
const ROLES = ["source", "peer", "virtual"] as const;
const ACTIVITIES = ["registered", "active", "lagging", "completed"] as const;

type Peer = NonNullable<OverlayStatus["activity"]>["peers"][number];

const COLUMNS = [
  { title: "peer", left: true },
  { title: "role", left: true },
  { title: "state", left: true },
  { title: "lag" },
  { title: "from..to" },
  { title: "missing" },
  { title: "in" },
  { title: "out" },
  { title: "to spare" },
  { title: "gave/took" },
  { title: "links" },
  { title: "heard" },
] as const;

export function roleText(role: number): string {
  return ROLES[role] ?? String(role);
}

export function activityText(activity: number): string {
  return ACTIVITIES[activity] ?? String(activity);
}

export function statusText(
  overlays: readonly OverlayStatus[],
  cacheServers: readonly CacheServerStatus[],
): string {
  const sessions = overlays.length === 0 ? ["no sessions"] : overlays.map(overlayText);
  const caches = cacheServers.map(cacheText).join("\n");
  return [...sessions, ...(caches === "" ? [] : [caches])].join("\n\n");
}

function cacheText({ label, cacheServerId, linked, ...cache }: CacheServerStatus): string {
  const { virtualPeers, assigned, places } = cache;
  const id = cacheServerId.slice(0, ID_DIGITS);
  const away = linked ? "" : ", away";
  return `cache server "${printable(label)}" ${id}: ${count(virtualPeers, "virtual peer", "virtual peers")}, ${countText(assigned)} of ${count(places, "place", "places")} taken${away}`;
}

function overlayText({ overlay, activity, trouble }: OverlayStatus): string {
  const { title, overlayId, sessionEpoch, members, inbound, outboundOnly } = overlay;
  const reach = `${countText(inbound)} can be dialled, ${countText(outboundOnly)} can not`;
  const heading = `"${printable(title)}"  overlay ${overlayId}  epoch ${sessionEpoch}`;
  const lines = [heading, `${count(members, "member", "members")}: ${reach}`];
  if (trouble !== undefined) lines.push(`the activity server tells nothing: ${printable(trouble)}`);
  else if (activity === undefined) lines.push("no activity server looks after it");
  else if (activity.peers.length === 0) lines.push("no peer has registered to report");
  else {
    lines.push(...table([COLUMNS.map(({ title: head }) => head), ...activity.peers.map(cells)]));
    const more = activity.registered - activity.peers.length;
    if (more > 0) lines.push(`and ${countText(more)} more (--peers)`);
  }
  return lines.join("\n");
}

function cells(peer: Peer): string[] {
  const { spareBytesPerSecond: spare } = peer;
  const who = [peer.peerId.slice(0, ID_DIGITS), roleText(peer.role), activityText(peer.activity)];
  const heard = `${secondsText(peer.silentMs)} ago`;
  if (peer.isNew) return [...who, ...COLUMNS.slice(who.length, -1).map(() => "-"), heard];
  return [
    ...who,
    secondsText(peer.lagMs),
    `${peer.heldStart}..${peer.heldEnd}`,
    countText(peer.missing),
    `${bytesText(peer.rateBytesPerSecond)}/s`,
    `${bytesText(peer.uploadBytesPerSecond)}/s`,
    spare >= UNLIMITED ? "no limit" : `${bytesText(spare)}/s`,
    ratioText(contributionOf(peer)),
    String(peer.links),
    heard,
  ];
}

/** The figures of a peer for programs: null is what it has not told yet, or no limit on its upload. */
export function figuresOf({ isNew, ...peer }: Peer): Record<string, number | string | null> {
  const { spareBytesPerSecond: spare } = peer;
  const contributionPermille = contributionOf(peer);
  const spareBytesPerSecond = spare >= UNLIMITED ? null : spare;
  if (!isNew) return { ...peer, contributionPermille, spareBytesPerSecond };
  const { peerId, role, activity, silentMs } = peer;
  const none = Object.fromEntries(Object.keys(peer).map((name) => [name, null]));
  return { ...none, peerId, role, activity, silentMs };
}

function ratioText(permille: number | null): string {
  return permille === null ? "-" : (permille / 1_000).toFixed(2);
}

/** What a peer gave for each byte it took, in thousandths; null of a source peer, which takes none. */
export function contributionOf(peer: {
  readonly role: number;
  readonly contributionPermille: number;
}): number | null {
  return peer.role === SOURCE ? null : peer.contributionPermille;
}

/** One peer in the overlays it is in. */
export function peerText(found: readonly PeerStatusFound[]): string {
  const lines = found.flatMap(({ overlay, status }) => {
    const [report] = status.reports;
    const head = [
      `"${printable(overlay.title)}"  overlay ${overlay.overlayId}`,
      `  ${roleText(status.role)}, ${activityText(status.activity)}, heard ${secondsText(status.silentMs)} ago`,
    ];
    const contribution = contributionOf(status);
    const ratio = contribution === null ? "-" : `${ratioText(contribution)} for 1`;
    if (report === undefined) return [...head, "  it has not reported yet"];
    return [
      ...head,
      `  holds ${count(report.fragmentsHeld, "fragment", "fragments")}, ${report.start}..${report.haveEnd} without hole, of ${report.known} known; missing ${countText(report.missing)}, lost ${countText(report.lost)}`,
      `  lag ${secondsText(report.lagMs)}, links ${report.links}`,
      `  took ${bytesText(report.bytesFromSource)} of the source and ${bytesText(report.bytesFromPeers)} of peers, gave ${bytesText(report.bytesToPeers)}: ${ratio}`,
      ...report.neighbours.map(
        ({ peerId, bytesFrom, bytesTo }) =>
          `  ${peerId.slice(0, ID_DIGITS)}  gave ${bytesText(bytesFrom)}, took ${bytesText(bytesTo)}`,
      ),
    ];
  });
  return lines.join("\n");
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = COLUMNS.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows.map((row) =>
    COLUMNS.map((column, i) => {
      const text = row[i] ?? "";
      const width = widths[i] ?? 0;
      return "left" in column ? text.padEnd(width) : text.padStart(width);
    })
      .join("  ")
      .trimEnd(),
  );
}
