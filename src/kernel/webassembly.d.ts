/**
 * The part of the WebAssembly API that is used here. TypeScript has it only in the browser's
 * library, whose other globals (window, document, setTimeout ...) this project must not see.
 */
declare namespace WebAssembly {
  interface Module {
    /** Keeps other objects from passing for a module. */
    readonly [Symbol.toStringTag]: "WebAssembly.Module";
  }
  interface Import {
    readonly module: string;
    readonly name: string;
    readonly kind: string;
  }
  const Module: {
    new (bytes: ArrayBuffer | ArrayBufferView): Module;
    imports(module: Module): Import[];
    exports(module: Module): { readonly name: string; readonly kind: string }[];
  };

  interface Instance {
    readonly exports: Record<string, unknown>;
  }
  const Instance: { new (module: Module, imports?: Record<string, unknown>): Instance };

  interface Memory {
    readonly buffer: ArrayBufferLike;
  }
  const Memory: {
    new (descriptor: { initial: number; maximum: number; shared: boolean }): Memory;
  };

  interface Global {
    readonly value: number | bigint;
  }

  const RuntimeError: { new (message?: string): Error };

  function validate(bytes: ArrayBuffer | ArrayBufferView): boolean;
  function compile(bytes: ArrayBuffer | ArrayBufferView): Promise<Module>;
}
