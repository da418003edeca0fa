/**
 * Every requirement of ITU-T X.609.10 (clauses 6 to 8), one row each, in wording of our own. The id
 * is what code comments and test titles use. P: general and procedures; R: reference points (R9 has
 * no clause in the text). Levels: M "is required to", R "is recommended", O "can optionally" or
 * "may", T said in the text without such a keyword.
 *
 * A row is `open`, or `proven` by the file where its tests stand. A test whose title starts with
 * `R5.c: ` is evidence for the row, one with `R5.c (negative): ` or `R5.c (twin): ` is its
 * negative twin; a proven row has both. How that is held true: compare.ts.
 */

export interface Row {
  readonly id: string;
  readonly level: "M" | "R" | "O" | "T";
  readonly text: string;
  readonly status: "proven" | "open";
  /** Where the evidence of a proven row stands; empty for an open one. */
  readonly file: string;
}

/** How many rows are open. It only ever goes down. */
export const OPEN_ROWS = 17;

const row = (
  id: string,
  level: Row["level"],
  status: Row["status"],
  text: string,
  file = "",
): Row => ({ id, level, status, text, file });

// biome-ignore format: a row is a line, so that a search for an id shows all of it
export const ROWS: readonly Row[] = [
  row("P0.1", "T", "proven", "the source peer receives no fragment from another peer", "test/peer/bad-input.test.ts"),
  row("P0.2", "T", "proven", "a joining peer fetches the newest index file, then the peer list of the overlay it names", "test/peer/session/join-session.test.ts"),
  row("P0.3", "T", "proven", "a status at the PAMS covers fragment distribution and contribution ratio", "test/servers/pams-peer-list.test.ts"),
  row("P0.4", "T", "proven", "the OMS can order a cache server into an overlay and out of it", "test/peer/cache/orders.test.ts"),
  row("P0.5", "T", "proven", "each virtual peer of a cache server has its own id and joins one or more overlays", "test/peer/cache/orders.test.ts"),
  row("P0.6", "T", "open", "a cache server acts as source peer where a data source pushes to it directly"),
  row("P0.7", "T", "proven", "the source peer passes received data on to peers at once", "test/peer/session/join-session.test.ts"),
  row("P0.8", "M", "proven", "creating a session, the source peer creates its overlay through the OMS", "test/peer/session/source-session.test.ts"),
  row("P1.1", "T", "proven", "Initiation: a data source orders its source peer to create a session", "test/engine/remote-sources/wire.test.ts"),
  row("P1.2", "T", "proven", "the source peer creates the overlay at the OMS and registers the session at the IXS", "test/peer/session/source-session.test.ts"),
  row("P1.3", "O", "proven", "cache resources are registered at the OMS and assigned when the source peer asks", "test/peer/cache/orders.test.ts"),
  row("P1.4", "O", "proven", "the OMS registers the overlay at the PAMS", "test/peer/session/source-session.test.ts"),
  row("P2.1", "T", "proven", "Distribution: data become fragments, sliced or merged, each with an index number", "test/stream/merger.test.ts"),
  row("P2.2", "T", "proven", "fragments reach peers and cache servers, and peers exchange them among themselves", "test/peer/cache/fragments.test.ts"),
  row("P2.3", "T", "proven", "a peer reports its activity to the PAMS when a report is asked for", "test/peer/session/join-session.test.ts"),
  row("P3.1", "T", "proven", "Termination: a data source orders its source peer to end the session", "test/engine/remote-sources/wire.test.ts"),
  row("P3.2", "T", "proven", "the source peer deregisters at the IXS and has the OMS remove the overlay", "test/peer/session/source-session.test.ts"),
  row("P3.3", "T", "proven", "the OMS deregisters the overlay at the PAMS and releases its cache resources", "test/peer/cache/orders.test.ts"),
  row("P3.4", "T", "proven", "a peer may leave at any time, announced or not", "test/peer/leaving.test.ts"),
  row("P3.5", "T", "proven", "the source peer leaves only by termination or when its overlay expires", "test/peer/session/source-session.test.ts"),
  row("R1.a", "M", "proven", "the OMS registers an overlay at the PAMS by overlay id", "test/servers/pams.test.ts"),
  row("R1.b", "M", "proven", "the PAMS answers with a report interval", "test/servers/pams.test.ts"),
  row("R1.c", "M", "proven", "the OMS repeats the registration every report interval", "test/servers/pams.test.ts"),
  row("R1.d", "M", "proven", "the OMS asks the PAMS for a peer list by status, maximum, ordering and conditions", "test/servers/oms/peer-list.test.ts"),
  row("R1.e", "M", "proven", "the OMS removes a registered overlay by overlay id", "test/servers/pams.test.ts"),
  row("R1.f", "M", "proven", "the OMS queries the status of one peer", "test/servers/oms/peer-list.test.ts"),
  row("R2.a", "M", "proven", "a peer registers at the PAMS by peer id", "test/servers/pams.test.ts"),
  row("R2.b", "M", "proven", "the PAMS answers with a report interval", "test/servers/pams.test.ts"),
  row("R2.c", "M", "proven", "the peer reports every report interval, and on events", "test/servers/pams.test.ts"),
  row("R2.d", "M", "proven", "a registered peer removes itself by peer id", "test/servers/pams.test.ts"),
  row("R2.e", "O", "proven", "the PAMS can ask a peer for its status at any time", "test/servers/pams.test.ts"),
  row("R3.a", "R", "open", "the UNIS orders a peer list for a peer by ISP preference and network status"),
  row("R3.b", "R", "open", "the OMS caches network distances"),
  row("R3.c", "R", "open", "the OMS asks again only at the update request interval"),
  row("R3.d", "R", "open", "the UNIS gives the OMS that interval"),
  row("R4.a", "R", "open", "a peer caches its distances to other peers"),
  row("R4.b", "R", "open", "a peer asks again only at the update request interval"),
  row("R4.c", "R", "open", "a peer can set its preferences for the calculation"),
  row("R4.d", "R", "open", "the UNIS can give a peer an update request interval"),
  row("R5.0", "T", "proven", "a peer joins an overlay, gets the list of its peers, leaves it", "test/servers/oms/membership.test.ts"),
  row("R5.a", "M", "proven", "a source peer creates an overlay for a new session", "test/servers/oms/ownership.test.ts"),
  row("R5.b", "M", "proven", "the OMS answers with a unique overlay id", "test/servers/oms/ownership.test.ts"),
  row("R5.c", "M", "proven", "the OMS gives an expiration time and removes an overlay not refreshed before it", "test/servers/oms/ownership.test.ts"),
  row("R5.d", "R", "proven", "the source peer refreshes before the expiration", "test/servers/oms/ownership.test.ts"),
  row("R5.e", "M", "open", "a session can be closed to all but listed peer ids"),
  row("R5.f", "M", "open", "a session can be closed by a password or other security information"),
  row("R5.g", "R", "open", "the peer list depends on the class of the asking peer's user"),
  row("R6.a", "M", "proven", "an index file registers title, OMS address, overlay id, source id, data id, size, text", "test/servers/ixs/changes.test.ts"),
  row("R6.b", "M", "proven", "an index file is updated by version, title and data source id", "test/servers/ixs/changes.test.ts"),
  row("R6.c", "M", "proven", "the IXS answers with the latest index file and never an older one", "test/servers/ixs/versions.test.ts"),
  row("R6.d", "M", "proven", "a session is removed by version, data source id and data id", "test/servers/ixs/changes.test.ts"),
  row("R6.e", "M", "proven", "a query carries version, title, data source id and data id", "test/servers/ixs/query.test.ts"),
  row("R7.a", "M", "open", "the UMS verifies a user's right to a session for the OMS"),
  row("R7.b", "R", "open", "the UMS's answer carries a validity period"),
  row("R8.a", "R", "proven", "the OMS allocates and releases cache resources by status or policy", "test/peer/cache/orders.test.ts"),
  row("R8.b", "R", "proven", "the OMS tells the cache server which PAMS the overlay has", "test/peer/cache/orders.test.ts"),
  row("R8.c", "R", "proven", "an allocation request carries a priority", "test/peer/cache/orders.test.ts"),
  row("R10.a", "M", "proven", "a peer requests the fragments it needs from peers that have them", "test/peer/requests.test.ts"),
  row("R10.b", "M", "proven", "a peer that can, sends the requested fragments", "test/peer/requests.test.ts"),
  row("R10.c", "M", "proven", "peers speak TCP", "test/engine/engine.test.ts"),
  row("R10.d", "O", "open", "peers speak WebRTC, as web applications too"),
  row("R11.a", "M", "proven", "the source peer receives data of various sources and converts them to one format", "test/stream/merger.test.ts"),
  row("R11.b", "R", "proven", "several data sources feed one overlay at the same time", "test/engine/remote-sources/wire.test.ts"),
  row("R11.c", "M", "proven", "a data source gives its identifier", "test/engine/remote-sources/wire.test.ts"),
  row("R11.d", "M", "proven", "the source peer tells data sources apart by identifier", "test/engine/remote-sources/wire.test.ts"),
  row("R11.e", "M", "proven", "a data source registers itself first", "test/engine/remote-sources/wire.test.ts"),
  row("R11.f", "M", "proven", "the source peer supports that registration", "test/engine/remote-sources/wire.test.ts"),
  row("R11.g", "M", "proven", "data are accepted only from a data source that has registered", "test/engine/remote-sources/wire.test.ts"),
  row("R12.a", "R", "open", "a cache server as source peer receives streams by FTP, HTTP and RTP"),
  row("R13.a", "M", "open", "a peer gets from the UMS the channels it needs to join, and how"),
];
