// Writes one record after another and says so on standard output once each is acknowledged.
// Arguments: module of the store, directory. Ends when it is killed.
import { writeSync } from "node:fs";

const [storeModule, directory] = process.argv.slice(2);
const { openLmdbStore } = await import(storeModule);
try {
  const store = await openLmdbStore(directory);
  writeSync(1, "open\n");
  for (let i = 0; ; i++) {
    const value = new Uint8Array(200 + (i % 3000)).fill(i & 0xff);
    const result = await store.execute({
      kind: "transaction",
      conditions: [],
      writes: [{ key: `record/${i}`, value }],
    });
    if (result.kind !== "transaction" || !result.committed) throw new Error(JSON.stringify(result));
    writeSync(1, `${i}\n`);
  }
} catch (error) {
  writeSync(1, `failed ${error.code}\n`);
  process.exitCode = 1;
}
