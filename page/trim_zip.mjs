// A zip file with fewer entries; what stays is copied as it is. Layout: PKWARE's APPNOTE, 4.3.

const [LOCAL, CENTRAL, END] = [0x04034b50, 0x02014b50, 0x06054b50];

/** The bytes of a zip file (one without comment) with those entries whose names are kept. */
export function trimZip(bytes, keeps) {
  const end = bytes.length - 22;
  if (bytes.readUInt32LE(end) !== END) throw new Error("no zip file without comment");
  const [parts, entries] = [[], []];
  let [at, size] = [bytes.readUInt32LE(end + 16), 0];
  while (bytes.readUInt32LE(at) === CENTRAL) {
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((place) => bytes.readUInt16LE(at + place));
    const next = at + 46 + nameLength + extraLength + commentLength;
    if (keeps(bytes.toString("utf8", at + 46, at + 46 + nameLength))) {
      const local = localEntry(bytes, bytes.readUInt32LE(at + 42), bytes.readUInt32LE(at + 20));
      const entry = Buffer.from(bytes.subarray(at, next));
      entry.writeUInt32LE(size, 42);
      parts.push(local);
      entries.push(entry);
      size += local.length;
    }
    at = next;
  }
  const last = Buffer.from(bytes.subarray(end));
  for (const place of [8, 10]) last.writeUInt16LE(entries.length, place);
  last.writeUInt32LE(entries.reduce((sum, entry) => sum + entry.length, 0), 12);
  last.writeUInt32LE(size, 16);
  return Buffer.concat([...parts, ...entries, last]);
}

/** An entry's header and content. */
function localEntry(bytes, start, contentSize) {
  if (bytes.readUInt32LE(start) !== LOCAL) throw new Error("a damaged zip file");
  const headerSize = 30 + bytes.readUInt16LE(start + 26) + bytes.readUInt16LE(start + 28);
  return bytes.subarray(start, start + headerSize + contentSize);
}
