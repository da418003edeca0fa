/**
 * The rooms of src/, what each may import, and the checks that hold sources to it. The table is the
 * architecture: a change here is a change of the design.
 */

import path from "node:path/posix";
import ts from "typescript";
import type { SourceText } from "./source-files.ts";

interface Room {
  /** Other rooms it may import. */
  readonly rooms: readonly string[];
  /** Packages it may import. */
  readonly packages: readonly string[];
  /** Files that may use the modules of Node; elsewhere a room must load in a browser too. */
  readonly node: RegExp | undefined;
}

const none: readonly string[] = [];
const everywhere = /^/;

export const ROOMS: Readonly<Record<string, Room>> = {
  base: { rooms: none, packages: none, node: undefined },
  kernel: { rooms: ["base"], packages: ["@assemblyscript/loader"], node: undefined },
  protocol: { rooms: ["base"], packages: ["msgpackr", "typebox"], node: undefined },
  stream: { rooms: ["base", "kernel"], packages: none, node: undefined },
  peer: { rooms: ["base", "protocol", "stream"], packages: none, node: undefined },
  servers: { rooms: ["base", "protocol"], packages: none, node: undefined },
  store: { rooms: ["base"], packages: ["lmdb"], node: /^src\/store\/lmdb/ },
  transport: { rooms: ["base"], packages: ["ws", "uWebSockets.js"], node: everywhere },
  intake: { rooms: ["base"], packages: ["csv-parse", "ws"], node: everywhere },
  pool: { rooms: ["base", "kernel"], packages: ["piscina"], node: everywhere },
  sim: { rooms: ["base", "kernel", "protocol", "stream", "peer"], packages: none, node: undefined },
  host: {
    rooms: [
      "base",
      "kernel",
      "protocol",
      "stream",
      "peer",
      "servers",
      "store",
      "transport",
      "intake",
      "pool",
      "sim",
    ],
    packages: ["pino", "prom-client", "uWebSockets.js", "ws"],
    node: /^src\/host\/node/,
  },
  cli: { rooms: ["base", "host"], packages: ["commander", "pino"], node: everywhere },
};

/** Subfolders that may import more than their room: a virtual peer is a peer. */
const EXCEPTIONS: readonly { readonly from: RegExp; readonly room: string }[] = [
  { from: /^src\/servers\/(cs|cache-server)\b/, room: "peer" },
];

/** Files at the top of src/, the public API, pick from all rooms but the command line. */
const TOP_LEVEL: Room = {
  rooms: Object.keys(ROOMS).filter((room) => room !== "cli"),
  packages: none,
  node: undefined,
};

export interface Import {
  /** As written: `../base/errors.ts`, `node:fs`, `msgpackr/pack`. */
  readonly specifier: string;
  readonly line: number;
}

/** Everything a file imports: statically, by re-export, as a type, dynamically, by require. */
export function importsOf({ path: filePath, text }: SourceText): Import[] {
  const file = ts.createSourceFile(filePath, text, ts.ScriptTarget.ESNext, true);
  const found: Import[] = [];
  const note = (node: ts.Node | undefined, at: ts.Node): void => {
    const line = file.getLineAndCharacterOfPosition(at.getStart(file)).line + 1;
    const computed = node === undefined || !ts.isStringLiteralLike(node);
    found.push({ specifier: computed ? "(computed)" : node.text, line });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) note(node.moduleSpecifier, node);
    else if (ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined) {
      note(node.moduleSpecifier, node);
    } else if (ts.isExternalModuleReference(node)) note(node.expression, node);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      note(node.argument.literal, node);
    } else if (ts.isCallExpression(node)) {
      const callee = node.expression;
      const isImport = callee.kind === ts.SyntaxKind.ImportKeyword;
      if (isImport || (ts.isIdentifier(callee) && callee.text === "require")) {
        note(node.arguments[0], node);
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

/** Imports of one file that the table does not allow, each as a sentence. */
export function importFaults(source: SourceText): string[] {
  const faults: string[] = [];
  const own = roomOf(source.path);
  const room = own === "" ? TOP_LEVEL : ROOMS[own];
  if (room === undefined) return [`${source.path}: there is no room ${own}`];
  for (const { specifier, line } of importsOf(source)) {
    const fault = importFault(source.path, own, room, specifier);
    if (fault !== undefined) faults.push(`${source.path}:${line}: ${fault}`);
  }
  return faults;
}

function importFault(
  filePath: string,
  own: string,
  room: Room,
  specifier: string,
): string | undefined {
  if (specifier.startsWith(".")) {
    const target = path.join(path.dirname(filePath), specifier);
    if (!target.startsWith("src/")) return `leaves src/ for ${specifier}`;
    const to = roomOf(target);
    if (to === own || room.rooms.includes(to)) return undefined;
    if (EXCEPTIONS.some(({ from, room: extra }) => extra === to && from.test(filePath)))
      return undefined;
    return `${own || "the top level"} may not import ${to || "the top level"}`;
  }
  if (specifier.startsWith("node:")) {
    return room.node?.test(filePath) === true
      ? undefined
      : `${specifier} does not load in a browser`;
  }
  const packageName = specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");
  return room.packages.includes(packageName) ? undefined : `${own} may not import ${packageName}`;
}

/** Each cycle of imports among the given files once, as `a -> b -> a`. */
export function importCycles(sources: readonly SourceText[]): string[] {
  const targets = new Map<string, string[]>();
  for (const source of sources) {
    const relative = importsOf(source).filter(({ specifier }) => specifier.startsWith("."));
    targets.set(
      source.path,
      relative.map(({ specifier }) => path.join(path.dirname(source.path), specifier)),
    );
  }
  const cycles: string[] = [];
  const finished = new Set<string>();
  const trail: string[] = [];
  const visit = (file: string): void => {
    const since = trail.indexOf(file);
    if (since >= 0) {
      cycles.push([...trail.slice(since), file].join(" -> "));
      return;
    }
    if (finished.has(file)) return;
    trail.push(file);
    for (const target of targets.get(file) ?? []) visit(target);
    trail.pop();
    finished.add(file);
  };
  for (const file of targets.keys()) visit(file);
  return cycles;
}

/** `src/peer/link.ts` lies in `peer`; `src/index.ts` at the top level, "". */
export function roomOf(filePath: string): string {
  const parts = filePath.split("/");
  return parts.length > 2 ? (parts[1] ?? "") : "";
}
