/**
 * Text of others for a terminal: what would move its cursor, clear it, break a line or turn the
 * direction of writing stands there as an escape that can be read. In JSON that says the same.
 */

const CONTROLS = /[\p{Cc}\u2028-\u202e\u2066-\u2069]/gu;
const CONTROLS_BUT_LINES = /(?!\n)[\p{Cc}\u2028-\u202e\u2066-\u2069]/gu;

/** One line of it. */
export function printable(text: string): string {
  return text.replace(CONTROLS, escaped);
}

/** Lines that this program broke itself: the text of others in them is printable already. */
export function printableLines(text: string): string {
  return text.replace(CONTROLS_BUT_LINES, escaped);
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
