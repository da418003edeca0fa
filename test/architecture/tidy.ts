/** Smaller checks of the build: size of files, who says WebAssembly, what tracked files must not say. */

import ts from "typescript";
import { roomOf } from "./rooms.ts";
import type { SourceText } from "./source-files.ts";

export const FILE_LINES_MAX = 500;

/** Files past 500 lines, unless they hold only types and re-exports. */
export function sizeFaults({ path, text }: SourceText): string[] {
  const lineCount = text.split("\n").length - 1;
  if (lineCount <= FILE_LINES_MAX || isDeclarative({ path, text })) return [];
  return [`${path}: ${lineCount} lines; make it a folder`];
}

function isDeclarative({ path, text }: SourceText): boolean {
  return ts
    .createSourceFile(path, text, ts.ScriptTarget.ESNext)
    .statements.every(
      (statement) =>
        ts.isImportDeclaration(statement) ||
        ts.isExportDeclaration(statement) ||
        ts.isInterfaceDeclaration(statement) ||
        ts.isTypeAliasDeclaration(statement),
    );
}

/**
 * Uses of WebAssembly outside of kernel. Other rooms may name its types, because they hand memories
 * and modules around (pool to its workers, host to kernel); they never compile, make or run any.
 */
export function webAssemblyFaults({ path, text }: SourceText): string[] {
  if (roomOf(path) === "kernel") return [];
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.ESNext, true);
  const faults: string[] = [];
  const visit = (node: ts.Node): void => {
    const isTypeUse = ts.isQualifiedName(node.parent) || ts.isTypeReferenceNode(node.parent);
    if (ts.isIdentifier(node) && node.text === "WebAssembly" && !isTypeUse) {
      const line = file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1;
      faults.push(`${path}:${line}: WebAssembly`);
    }
    ts.forEachChild(node, visit);
  };
  ts.forEachChild(file, visit);
  return faults;
}

const UNWANTED = [
  { what: "a registry host", pattern: /(registry|deb)\.[a-z]+\.org|registry\.yarnpkg\.com/ },
  { what: "a machine path", pattern: /(^|[^a-zA-Z0-9_.])\/(work|farm|home|root|Users)\//m },
] as const;

/** Tracked files that name a package registry or a path of somebody's machine. */
export function leakFaults({ path, text }: SourceText): string[] {
  return UNWANTED.flatMap(({ what, pattern }) => {
    const at = text.search(pattern);
    return at < 0 ? [] : [`${path}:${text.slice(0, at + 1).split("\n").length}: ${what}`];
  });
}
