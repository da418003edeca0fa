/**
 * What a pure room never says. Time, chance and the world come in as arguments there, so that one
 * seed replays a whole overlay.
 */

import ts from "typescript";
import type { SourceText } from "./source-files.ts";

export const PURE_ROOMS = [
  "base",
  "kernel",
  "protocol",
  "stream",
  "peer",
  "servers",
  "sim",
] as const;

/** Names of the world outside. A file that binds such a name itself may use it. */
const FORBIDDEN_NAMES = new Set([
  "performance",
  "setTimeout",
  "setInterval",
  "setImmediate",
  "clearTimeout",
  "clearInterval",
  "clearImmediate",
  "queueMicrotask",
  "requestAnimationFrame",
  "Promise",
  "EventEmitter",
  "EventTarget",
  "process",
  "console",
  "crypto",
  "Buffer",
  "fetch",
  "Worker",
  "WebSocket",
  "MessageChannel",
  "globalThis",
  "require",
  "eval",
]);
const FORBIDDEN_MEMBERS = new Set(["Date.now", "Math.random", "Atomics.wait", "Atomics.waitAsync"]);

/** Impure words of one file, each as `path:line: word`. */
export function purityFaults({ path, text }: SourceText): string[] {
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.ESNext, true);
  const bound = boundNames(file);
  const faults: string[] = [];
  const fault = (node: ts.Node, word: string): void => {
    const line = file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1;
    faults.push(`${path}:${line}: ${word}`);
  };
  const visit = (node: ts.Node): void => {
    if (node.kind === ts.SyntaxKind.AsyncKeyword) fault(node, "async");
    else if (ts.isAwaitExpression(node)) fault(node, "await");
    else if (ts.isForOfStatement(node) && node.awaitModifier !== undefined)
      fault(node, "for await");
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      fault(node, "import()");
    } else if (ts.isPropertyAccessExpression(node) && ts.isIdentifier(node.expression)) {
      const member = `${node.expression.text}.${node.name.text}`;
      if (FORBIDDEN_MEMBERS.has(member)) fault(node, member);
    } else if (ts.isElementAccessExpression(node) && isClockOrChance(node.expression)) {
      fault(node, `${node.expression.getText(file)}[...]`);
    } else if (isClockRead(node)) fault(node, "the current Date");
    else if (ts.isBindingElement(node) || ts.isVariableDeclaration(node)) {
      // `const { now } = Date` would hide the member.
      const from = ts.isVariableDeclaration(node) ? node.initializer : undefined;
      if (from !== undefined && isClockOrChance(from)) fault(node, from.getText(file));
    }
    if (ts.isIdentifier(node) && FORBIDDEN_NAMES.has(node.text) && !bound.has(node.text)) {
      if (isReference(node)) fault(node, node.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return faults;
}

/** `new Date()` and `Date()` read the clock; `new Date(ms)` does not. */
function isClockRead(node: ts.Node): boolean {
  if (ts.isNewExpression(node)) {
    return isName(node.expression, "Date") && (node.arguments?.length ?? 0) === 0;
  }
  return ts.isCallExpression(node) && isName(node.expression, "Date");
}

function isClockOrChance(node: ts.Node): boolean {
  return isName(node, "Date") || isName(node, "Math");
}

function isName(node: ts.Node, name: string): boolean {
  return ts.isIdentifier(node) && node.text === name;
}

/** Whether the identifier stands for a value or type, and is not just the name of a member. */
function isReference(node: ts.Identifier): boolean {
  const parent = node.parent;
  if (ts.isPropertyAccessExpression(parent)) return parent.expression === node;
  if (ts.isQualifiedName(parent)) return parent.left === node;
  const namesMember =
    ts.isPropertyAssignment(parent) ||
    ts.isPropertySignature(parent) ||
    ts.isPropertyDeclaration(parent) ||
    ts.isMethodDeclaration(parent) ||
    ts.isMethodSignature(parent) ||
    ts.isGetAccessor(parent) ||
    ts.isSetAccessor(parent) ||
    ts.isEnumMember(parent);
  return !(namesMember && parent.name === node);
}

/** Names that the file declares: parameters, variables, functions, classes, types. */
function boundNames(file: ts.SourceFile): Set<string> {
  const names = new Set<string>();
  const visit = (node: ts.Node): void => {
    const declares =
      ts.isParameter(node) ||
      ts.isVariableDeclaration(node) ||
      ts.isBindingElement(node) ||
      ts.isFunctionDeclaration(node) ||
      ts.isClassDeclaration(node) ||
      ts.isInterfaceDeclaration(node) ||
      ts.isTypeAliasDeclaration(node);
    if (declares && node.name !== undefined && ts.isIdentifier(node.name))
      names.add(node.name.text);
    ts.forEachChild(node, visit);
  };
  visit(file);
  return names;
}
