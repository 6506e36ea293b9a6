// CBOR (RFC 8949) for people: its diagnostic notation (§8), and as a JSON value where it has one (§6.1).
export interface Cbor {
  diagnostic: string;
  /** The value as JSON has it; byte strings, tags and other keys than texts are written as text. */
  value: unknown;
}

const mostDepth = 64;

/** Reads one item that fills the bytes. Throws an Error that says where it breaks. */
export function decodeCbor(bytes: Uint8Array): Cbor {
  const reader = new Reader(bytes);
  const item = reader.item(0);
  if (reader.at < bytes.length) throw new Error(`${bytes.length - reader.at} bytes follow after the value`);
  return item;
}

const textDecoder = new TextDecoder("utf-8", { fatal: true });

class Reader {
  at = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  item(depth: number): Cbor {
    if (depth > mostDepth) throw new Error("it is nested too deeply");
    const start = this.at;
    const initial = this.#byte();
    const major = initial >> 5;
    const info = initial & 31;
    if (major === 7) return this.#simple(info, start);
    if (info === 31) return this.#indefinite(major, depth, start);
    const argument = this.#argument(info, start);
    switch (major) {
      case 0:
        return number(argument);
      case 1:
        return number(-1n - argument);
      case 2:
        return byteString(this.#take(argument, start));
      case 3:
        return textString(this.#take(argument, start), start);
      case 4:
        return array(this.#items(this.#count(argument, start), depth), "");
      case 5:
        return map(this.#items(this.#count(argument * 2n, start), depth), "");
      default:
        return tagged(argument, this.item(depth + 1));
    }
  }

  #byte(): number {
    if (this.at >= this.#bytes.length) throw new Error("it ends too early");
    return this.#bytes[this.at++]!;
  }

  #argument(info: number, start: number): bigint {
    if (info < 24) return BigInt(info);
    if (info > 27) throw new Error(`byte ${start}: reserved length`);
    const size = 1 << (info - 24);
    if (this.at + size > this.#bytes.length) throw new Error("it ends too early");
    let value = 0n;
    for (let i = 0; i < size; i++) value = (value << 8n) | BigInt(this.#byte());
    return value;
  }

  #take(length: bigint, start: number): Uint8Array {
    if (length > BigInt(this.#bytes.length - this.at)) throw new Error(`byte ${start}: longer than what there is`);
    const from = this.at;
    this.at += Number(length);
    return this.#bytes.subarray(from, this.at);
  }

  /** Each item takes at least a byte, so that a count is bounded before anything is made of it. */
  #count(count: bigint, start: number): number {
    if (count > BigInt(this.#bytes.length - this.at)) throw new Error(`byte ${start}: more items than there are bytes`);
    return Number(count);
  }

  #items(count: number, depth: number): Cbor[] {
    const items: Cbor[] = [];
    for (let i = 0; i < count; i++) items.push(this.item(depth + 1));
    return items;
  }

  #indefinite(major: number, depth: number, start: number): Cbor {
    const items: Cbor[] = [];
    while (this.#bytes[this.at] !== 0xff) {
      if (this.at >= this.#bytes.length) throw new Error("it ends too early");
      if ((major === 2 || major === 3) && (this.#bytes[this.at]! >> 5 !== major || (this.#bytes[this.at]! & 31) === 31)) throw new Error(`byte ${this.at}: no chunk of the same kind`);
      items.push(this.item(depth + 1));
    }
    this.at++;
    switch (major) {
      case 2:
        return { diagnostic: `(_ ${items.map((i) => i.diagnostic).join(", ")})`, value: items.map((i) => i.value).join("") };
      case 3:
        return { diagnostic: `(_ ${items.map((i) => i.diagnostic).join(", ")})`, value: items.map((i) => i.value).join("") };
      case 4:
        return array(items, "_ ");
      case 5:
        if (items.length % 2) throw new Error(`byte ${start}: a key without a value`);
        return map(items, "_ ");
      default:
        throw new Error(`byte ${start}: reserved length`);
    }
  }

  #simple(info: number, start: number): Cbor {
    switch (info) {
      case 20:
        return { diagnostic: "false", value: false };
      case 21:
        return { diagnostic: "true", value: true };
      case 22:
        return { diagnostic: "null", value: null };
      case 23:
        return { diagnostic: "undefined", value: null };
      case 25:
        return float(half(Number(this.#argument(25, start))));
      case 26:
      case 27: {
        const size = info === 26 ? 4 : 8;
        if (this.at + size > this.#bytes.length) throw new Error("it ends too early");
        const value = info === 26 ? this.#view.getFloat32(this.at) : this.#view.getFloat64(this.at);
        this.at += size;
        return float(value);
      }
      case 28:
      case 29:
      case 30:
      case 31:
        throw new Error(`byte ${start}: reserved value`);
      default: {
        const code = info === 24 ? this.#byte() : info;
        return { diagnostic: `simple(${code})`, value: `simple(${code})` };
      }
    }
  }
}

function number(value: bigint): Cbor {
  const safe = value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER);
  return { diagnostic: String(value), value: safe ? Number(value) : String(value) };
}

/** RFC 8949 §8: a float shows that it is one. */
function float(value: number): Cbor {
  if (!Number.isFinite(value)) return { diagnostic: String(value), value: String(value) };
  const text = Object.is(value, -0) ? "-0" : String(value);
  return { diagnostic: /[.e]/.test(text) ? text : `${text}.0`, value };
}

/** RFC 8949 appendix D. */
function half(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const value = exponent === 0 ? fraction * 2 ** -24 : exponent < 31 ? (fraction + 1024) * 2 ** (exponent - 25) : fraction ? NaN : Infinity;
  return bits & 0x8000 ? -value : value;
}

function byteString(bytes: Uint8Array): Cbor {
  const hex = `h'${Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("")}'`;
  return { diagnostic: hex, value: hex };
}

function textString(bytes: Uint8Array, start: number): Cbor {
  try {
    const text = textDecoder.decode(bytes);
    return { diagnostic: JSON.stringify(text), value: text };
  } catch {
    throw new Error(`byte ${start}: text that is not UTF-8`);
  }
}

function array(items: readonly Cbor[], mark: string): Cbor {
  return { diagnostic: block("[", mark, items.map((i) => i.diagnostic), "]"), value: items.map((i) => i.value) };
}

function map(items: readonly Cbor[], mark: string): Cbor {
  const lines: string[] = [];
  const value: Record<string, unknown> = {};
  for (let i = 0; i < items.length; i += 2) {
    const [key, content] = [items[i]!, items[i + 1]!];
    lines.push(`${key.diagnostic}: ${content.diagnostic}`);
    Object.defineProperty(value, typeof key.value === "string" ? key.value : key.diagnostic, { value: content.value, enumerable: true, configurable: true });
  }
  return { diagnostic: block("{", mark, lines, "}"), value };
}

function tagged(tag: bigint, item: Cbor): Cbor {
  return { diagnostic: `${tag}(${item.diagnostic})`, value: item.value };
}

/** On one line where that is short, otherwise an item a line. */
function block(open: string, mark: string, items: readonly string[], close: string): string {
  const line = `${open}${mark}${items.join(", ")}${close}`;
  if (line.length <= 60 && !line.includes("\n")) return line;
  return `${open}${mark}\n${items.map((item) => `  ${item.replaceAll("\n", "\n  ")}`).join(",\n")}\n${close}`;
}
