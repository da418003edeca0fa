// How the cost of one fragment grows with the number of neighbours and with the window.
import { ADVERTISED, PICKED, PickerWorld } from "./picker-world.mjs";
import { LITTLE, PullWorld } from "./pull-world.mjs";

export const NEIGHBOURS = [4, 16, 64, 256];
export const WINDOWS = [1024, 8192, 65_536];
/** What a fragment may cost at most, as a multiple of what it costs in the smaller setting. */
const GROWTH_MAX = 1.2;
/** Samples of a turn; before them come some that bring the memory back into the cache: not counted. */
const SAMPLES_A_TURN = 3;

/**
 * What is measured, and what of it is a floor: pulling, which is what a fragment costs a peer, in
 * every setting, and what of the picker alone can be told from the cache. These are none:
 *
 * - Picks of each neighbour in turn. Half of them lack what is looked at, so that more is; and each of
 *   their maps is read seldom: 64 of 64 Ki are 640 KiB, which the nearest cache does not hold.
 * - HAVE in larger windows: two nanoseconds, of which the cache is the most.
 */
export const WAYS = [
  {
    name: "pick of one",
    densities: ["dense", "sparse"],
    neighbours: NEIGHBOURS,
    perSample: PICKED,
    create: (...args) => new PickerWorld(...args),
    run: (world) => world.drain(1, false),
    restore: (world) => world.restore(),
    mostByNeighbours: GROWTH_MAX,
    mostByWindow: GROWTH_MAX,
  },
  {
    name: "pick in turn",
    densities: ["dense", "sparse"],
    neighbours: NEIGHBOURS,
    perSample: PICKED,
    create: (...args) => new PickerWorld(...args),
    run: (world) => world.drain(1, true),
    restore: (world) => world.restore(),
  },
  {
    name: "advertise",
    densities: ["dense"],
    neighbours: NEIGHBOURS,
    perSample: ADVERTISED,
    create: (...args) => {
      const world = new PickerWorld(...args);
      world.forgetLast();
      return world;
    },
    run: (world) => world.advertise(),
    restore: (world) => world.forgetLast(),
    mostByNeighbours: GROWTH_MAX,
  },
  ...[
    ["pull", ["dense", "sparse"], {}],
    ["pull beside the source", ["dense", "sparse"], { hasSource: true }],
    // Suppliers have room, and it is the fragments that are few.
    ["pull of little", ["sparse"], { missing: LITTLE }],
    // All but one have room, and nothing to offer.
    ["pull of one ahead", ["dense", "sparse"], { isOneAhead: true }],
  ].map(([name, densities, options]) => ({
    name,
    densities,
    neighbours: [4, 16, 64],
    perSample: PICKED,
    create: (...args) => new PullWorld(...args, options),
    run: (world) => world.drain(),
    roundsShare: 1 / 20,
    // A large window takes long: picks go all over it.
    warmUps: 100,
    samples: 30,
    mostByNeighbours: GROWTH_MAX,
    mostByWindow: GROWTH_MAX,
  })),
];

/**
 * {name, small, large, ratio, most}: nanoseconds a fragment in both settings, and what the ratio may
 * be where that is a floor. All settings are measured in turns and by their best sample: other work
 * comes and goes, and only ever adds. `createKernel` gives a kernel on a memory of its own.
 */
export function growths(createKernel, rounds, ways = WAYS) {
  const settings = [];
  for (const way of ways) {
    for (const density of way.densities) {
      for (const neighbours of way.neighbours) {
        for (const fragments of WINDOWS) {
          const world = way.create(createKernel(), neighbours, fragments, density);
          settings.push({ way, density, neighbours, fragments, world, bestNs: Infinity });
        }
      }
    }
  }
  for (let round = 0; round < rounds; round++) {
    for (const setting of settings) {
      if (round < rounds * (setting.way.roundsShare ?? 1)) sample(setting, rounds);
    }
  }
  return ways.flatMap((way) =>
    way.densities.flatMap((density) => compared(settings, way, density)),
  );
}

/** 1 when the kernels did not agree, or a floor has fallen. */
export function exitCodeOf(failures, grown) {
  const isFallen = grown.some(({ ratio, most }) => most !== undefined && !(ratio <= most));
  return failures.length > 0 || isFallen ? 1 : 0;
}

function sample(setting, rounds) {
  const { way, world } = setting;
  const warmUps = Math.min(way.warmUps ?? 1, rounds);
  const samples = Math.min(way.samples ?? SAMPLES_A_TURN, rounds);
  for (let n = 0; n < warmUps + samples; n++) {
    const startedNs = process.hrtime.bigint();
    way.run(world);
    const ns = Number(process.hrtime.bigint() - startedNs) / way.perSample;
    way.restore?.(world);
    if (n >= warmUps) setting.bestNs = Math.min(setting.bestNs, ns);
  }
}

function compared(settings, way, density) {
  const bestOf = (neighbours, fragments) =>
    settings.find(
      (one) =>
        one.way === way &&
        one.density === density &&
        one.neighbours === neighbours &&
        one.fragments === fragments,
    ).bestNs;
  const grown = (title, small, large, most) => ({
    name: `${way.name}, ${density}, ${title}`,
    small,
    large,
    ratio: large / small,
    ...(most === undefined ? {} : { most }),
  });
  return [
    ...WINDOWS.map((fragments) =>
      grown(
        `4 -> 64 neighbours, ${fragments / 1024} Ki`,
        bestOf(4, fragments),
        bestOf(64, fragments),
        way.mostByNeighbours,
      ),
    ),
    ...way.neighbours.map((neighbours) =>
      grown(
        `1 -> 64 Ki, ${neighbours} neighbours`,
        bestOf(neighbours, 1024),
        bestOf(neighbours, 65_536),
        way.mostByWindow,
      ),
    ),
  ];
}
