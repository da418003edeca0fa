// Picking what to ask a neighbour for next, at windows and numbers of neighbours there are. Unit:
// fragments.
//
// A sample drains a world of PICKED candidates: each is picked, taken and stored. What it drained
// comes back before the next, untimed.
import { NEIGHBOURS, WINDOWS } from "./growth.mjs";
import { ADVERTISED, PICKED, PickerWorld } from "./picker-world.mjs";

/** The set-up that the running case works on, and the last one of each kernel. */
let world;
const built = new WeakMap();

/** Sets `world` to one as new; what a kernel worked on last is only put in order again. */
function build(kernel, neighbours, fragments, density) {
  const key = `${neighbours} ${fragments} ${density}`;
  world = built.get(kernel);
  if (world?.key !== key) {
    world = new PickerWorld(kernel, neighbours, fragments, density);
    world.key = key;
    built.set(kernel, world);
  }
  world.rewind();
}

const nameOf = (what, neighbours, fragments, density) =>
  `${what}, ${neighbours} neighbours, ${fragments / 1024} Ki ${density}`;

const picking = (what, max, density, inTurn = false, numbers = NEIGHBOURS) =>
  numbers.flatMap((neighbours) =>
    WINDOWS.map((fragments) => ({
      name: nameOf(what, neighbours, fragments, density),
      fragments: PICKED,
      calls: 1,
      prepare: (kernel) => build(kernel, neighbours, fragments, density),
      restore: () => world.restore(),
      call: () => world.drain(max, inTurn),
      check: () => {
        const sum = world.drain(max, inTurn);
        world.restore();
        return [sum, world.picker.candidates];
      },
    })),
  );

const advertising = NEIGHBOURS.flatMap((neighbours) =>
  WINDOWS.map((fragments) => ({
    name: nameOf("advertise 16", neighbours, fragments, "dense"),
    fragments: ADVERTISED,
    calls: 1,
    prepare: (kernel) => {
      build(kernel, neighbours, fragments, "dense");
      world.forgetLast();
    },
    restore: () => world.forgetLast(),
    call: () => world.advertise(),
    check: () => {
      const sum = world.advertise();
      world.forgetLast();
      return [sum, world.picker.candidates];
    },
  })),
);

/** A whole search for a neighbour that holds nothing of what is missing: the dearest answer. */
const inVain = ["dense", "sparse"].flatMap((density) =>
  WINDOWS.map((fragments) => ({
    name: `pick in vain for one neighbour, ${fragments / 1024} Ki ${density}`,
    calls: 100,
    prepare: (kernel) => build(kernel, 4, fragments, density),
    call: () => world.pickInVain(),
    check: () => [world.pickInVain()],
  })),
);

export const picker = {
  name: "picker",
  cases: [
    ...["dense", "sparse"].flatMap((density) => picking("pick, take, store", 1, density)),
    ...picking("pick 16, take, store", 16, "dense", false, [4, 64]),
    ...["dense", "sparse"].flatMap((density) =>
      picking("pick of each in turn", 1, density, true, [4, 64]),
    ),
    ...advertising,
    ...inVain,
  ],
};
