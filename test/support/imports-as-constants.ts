/**
 * A Vite plugin for the test run: what a module imports by name from another of the project becomes
 * a constant of its own.
 *
 * Vitest turns each use of an imported name into a call of a getter on the module it is from, so
 * that bindings stay live. No optimizer sees through that: a simulation cost twice the time. Nothing
 * here needs live bindings, since there are no import cycles (test/architecture) and no exported
 * variables, which are refused.
 */

import type { Plugin } from "vitest/config";

export function importsAsConstants(): Plugin {
  return {
    name: "imports-as-constants",
    // Types are gone by then, and lines stay what they are.
    enforce: "post",
    transform(code, id) {
      if (!id.endsWith(".ts") || id.includes("/node_modules/")) return undefined;
      let result = "";
      let at = 0;
      for (const node of this.parse(code).body) {
        if (node.type === "ExportNamedDeclaration") {
          const { declaration } = node;
          if (declaration?.type === "VariableDeclaration" && declaration.kind !== "const") {
            throw new Error(`${id}: export a function that returns the variable, not the variable`);
          }
        }
        if (node.type !== "ImportDeclaration" || !node.source.value.startsWith(".")) continue;
        const constants: string[] = [];
        for (const specifier of node.specifiers) {
          if (specifier.type !== "ImportSpecifier") continue;
          const { imported, local, start, end } = specifier;
          const name = code.slice(imported.start, imported.end);
          result += `${code.slice(at, start)}${name} as $${local.name}`;
          at = end;
          constants.push(`${local.name} = $${local.name}`);
        }
        if (constants.length === 0) continue;
        result += `${code.slice(at, node.end)};const ${constants.join(", ")};`;
        at = node.end;
      }
      return at === 0 ? undefined : { code: result + code.slice(at), map: null };
    },
  };
}
