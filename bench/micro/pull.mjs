// What a pulled fragment costs a peer, beside its transport and checksum: it comes, is stored, and
// the next is asked for. Unit: fragments.
import { PICKED } from "./picker-world.mjs";
import { PullWorld } from "./pull-world.mjs";

let world;

export const pull = {
  name: "pull",
  cases: ["dense", "sparse"].flatMap((density) =>
    [4, 64].flatMap((neighbours) =>
      [1024, 65_536].map((fragments) => ({
        name: `come, store, ask, ${neighbours} neighbours, ${fragments / 1024} Ki ${density}`,
        fragments: PICKED,
        calls: 1,
        prepare: (kernel) => {
          world = new PullWorld(kernel, neighbours, fragments, density);
        },
        call: () => world.drain(),
        check: () => {
          const sum = world.drain();
          const { requestsSent } = world.context.counters;
          return [sum, requestsSent, world.puller.picker.candidates];
        },
      })),
    ),
  ),
};
