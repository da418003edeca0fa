/** Which of two neighbours is the better partner in a substream. */

import type { Neighbour } from "../neighbour.ts";

/** One that is nearer by a hop, or no nearer than one that has none, has to have so many to spare. */
const SPARE_TO_RELIEVE = 8;

/** Whether it is worth it to exchange `partner`: what wavers does not count. */
export function isBetter(neighbour: Neighbour, partner: Neighbour, s: number): boolean {
  const nearer = (partner.depths[s] as number) - (neighbour.depths[s] as number);
  if (nearer >= 2) return true;
  if (neighbour.spareCopies < SPARE_TO_RELIEVE) return false;
  if (nearer >= 1) return true;
  // A full one is left to those with less choice, at the price of a hop.
  return nearer >= -1 && partner.spareCopies === 0;
}

/**
 * Hops to the source by way of `neighbour`. One with little upload to spare counts as if it were
 * further away: it is left to those who have no choice.
 */
export function cost(neighbour: Neighbour, s: number): number {
  const { spareCopies } = neighbour;
  const detour = spareCopies >= 8 ? 0 : spareCopies >= 4 ? 1 : 3;
  return (neighbour.depths[s] as number) + (neighbour.isSource ? 0 : detour);
}
