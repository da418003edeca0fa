/**
 * What an address of a host says about who can reach it. Works on literals only: a name is a name,
 * whatever it resolves to.
 */

export type HostKind =
  /** This machine: 127.0.0.0/8, ::1, `localhost`. */
  | "loopback"
  /** A network of its own: RFC 1918, shared (RFC 6598), link-local, unique local. */
  | "private"
  | "public"
  /** Where the asker is, or everywhere: 0.0.0.0 and ::. */
  | "wildcard"
  /** Multicast, broadcast, reserved, or no literal that can be dialled. */
  | "unusable"
  /** Not a literal. */
  | "name";

/** `::ffff:192.0.2.1`, as a dual-stack socket sees IPv4, without its prefix; IPv6 in lower case. */
export function plainHost(host: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host);
  return mapped?.[1] ?? (host.includes(":") ? host.toLowerCase() : host);
}

export function hostKind(host: string): HostKind {
  const plain = plainHost(host);
  if (plain.includes(":")) return kindOf6(plain);
  if (/^[\d.]+$/.test(plain)) return kindOf4(plain);
  return /^(.+\.)?localhost\.?$/i.test(plain) ? "loopback" : "name";
}

/** Whether plain text to this host stays on this machine. */
export function isLoopback(host: string): boolean {
  return hostKind(host) === "loopback";
}

/** Whether both literals lie in one network, as far as can be told: a /24 of IPv4, a /64 of IPv6. */
export function isSameNet(a: string, b: string): boolean {
  const [one, other] = [plainHost(a), plainHost(b)];
  const [four, otherFour] = [octets(one), octets(other)];
  if (four !== undefined && otherFour !== undefined) {
    return four.slice(0, 3).every((octet, i) => octet === otherFour[i]);
  }
  const [six, otherSix] = [groups(one), groups(other)];
  if (six === undefined || otherSix === undefined) return false;
  return six.slice(0, 4).every((group, i) => group === otherSix[i]);
}

function kindOf4(host: string): HostKind {
  const parts = octets(host);
  if (parts === undefined) return "unusable";
  const [a = 0, b = 0] = parts;
  if (a === 127) return "loopback";
  if (parts.every((octet) => octet === 0)) return "wildcard";
  if (a === 0 || a >= 224) return "unusable";
  const own =
    a === 10 ||
    (a === 172 && b >= 16 && b <= 31) ||
    (a === 192 && b === 168) ||
    (a === 169 && b === 254) ||
    (a === 100 && b >= 64 && b <= 127);
  return own ? "private" : "public";
}

function kindOf6(host: string): HostKind {
  const parts = groups(host);
  if (parts === undefined) return "unusable";
  const [first = 0] = parts;
  const rest = parts.slice(0, 7).every((group) => group === 0);
  if (rest && parts[7] === 1) return "loopback";
  if (rest && parts[7] === 0) return "wildcard";
  if ((first & 0xfe00) === 0xfc00 || (first & 0xffc0) === 0xfe80) return "private";
  // Global unicast (2000::/3) and nothing else: all that is set aside is no peer.
  return (first & 0xe000) === 0x2000 ? "public" : "unusable";
}

/** The four numbers of an IPv4 literal. */
function octets(host: string): number[] | undefined {
  if (!/^\d{1,3}(\.\d{1,3}){3}$/.test(host)) return undefined;
  const parts = host.split(".").map(Number);
  return parts.every((octet) => octet <= 255) ? parts : undefined;
}

/** The eight groups of an IPv6 literal; its zone is left out. */
function groups(host: string): number[] | undefined {
  const [literal = ""] = host.split("%");
  const halves = literal.split("::");
  if (!literal.includes(":") || halves.length > 2) return undefined;
  const read = (text: string | undefined): number[] | undefined => {
    if (text === undefined || text === "") return [];
    const parts = text.split(":");
    const tail = octets(parts.at(-1) ?? "");
    if (tail !== undefined) {
      const [a = 0, b = 0, c = 0, d = 0] = tail;
      parts.splice(-1, 1, (a * 256 + b).toString(16), (c * 256 + d).toString(16));
    }
    if (!parts.every((part) => /^[0-9a-f]{1,4}$/i.test(part))) return undefined;
    return parts.map((part) => Number.parseInt(part, 16));
  };
  const [head, tail] = [read(halves[0]), read(halves[1])];
  if (head === undefined || tail === undefined) return undefined;
  const gap = 8 - head.length - tail.length;
  if (halves.length === 1) return head.length === 8 ? head : undefined;
  return gap >= 1 ? [...head, ...new Array<number>(gap).fill(0), ...tail] : undefined;
}
