// How the cost of one fragment grows with the number of neighbours and with the window.
import { ADVERTISED, PICKED, PickerWorld } from "./picker-world.mjs";
import { LITTLE, PullWorld } from "./pull-world.mjs";

export const NEIGHBOURS = [4, 16, 64, 256];
export const WINDOWS = [1024, 8192, 65_536];
/** What a fragment may cost at most, as a multiple of what it costs in the smaller setting. */
const GROWTH_MAX = 1.2;
/** The first of a turn brings the memory back into the cache and is not counted. */
const SAMPLES_A_TURN = 4;

/**
 * What is measured, and what of it is a floor. These are none:
 *
 * - Picks of each neighbour in turn. Half of them lack what is looked at, so that more is; and each of
 *   their maps is read seldom: 64 of 64 Ki are 640 KiB, which the nearest cache does not hold.
 * - HAVE in larger windows: two nanoseconds, of which the cache is the most.
 * - Pulling in larger windows that lack all: picks go all over the picker's table, which the nearest
 *   cache holds of a small window only.
 * - Pulling beside the source peer in larger windows: what was asked of others is stepped over.
 * - Pulling when there is less to ask for than suppliers would answer: each of them is looked at in vain.
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
  {
    name: "pull",
    densities: ["sparse"],
    neighbours: [4, 16, 64],
    perSample: PICKED,
    create: (...args) => new PullWorld(...args),
    run: (world) => world.drain(),
    roundsShare: 1 / 2,
    mostByNeighbours: GROWTH_MAX,
    mostByWindow: GROWTH_MAX,
  },
  {
    name: "pull",
    densities: ["dense"],
    neighbours: [4, 16, 64],
    perSample: PICKED,
    create: (...args) => new PullWorld(...args),
    run: (world) => world.drain(),
    roundsShare: 1 / 2,
    mostByNeighbours: GROWTH_MAX,
  },
  {
    name: "pull beside the source",
    densities: ["dense"],
    neighbours: [4, 16, 64],
    perSample: PICKED,
    create: (...args) => new PullWorld(...args, { hasSource: true }),
    run: (world) => world.drain(),
    roundsShare: 1 / 2,
    mostByNeighbours: GROWTH_MAX,
  },
  {
    name: "pull of little",
    densities: ["sparse"],
    neighbours: [4, 16, 64],
    perSample: PICKED,
    create: (...args) => new PullWorld(...args, { missing: LITTLE }),
    run: (world) => world.drain(),
    roundsShare: 1 / 10,
  },
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
      if (round < rounds * (setting.way.roundsShare ?? 1)) sample(setting);
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

function sample(setting) {
  const { way, world } = setting;
  for (let n = 0; n < SAMPLES_A_TURN; n++) {
    const startedNs = process.hrtime.bigint();
    way.run(world);
    const ns = Number(process.hrtime.bigint() - startedNs) / way.perSample;
    way.restore?.(world);
    if (n > 0) setting.bestNs = Math.min(setting.bestNs, ns);
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
