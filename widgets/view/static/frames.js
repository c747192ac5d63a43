// Where frames come from: kept ones at once, recorded ones at once, others from the kernel.

const MOST_BYTES = 24e6,
  AT_ONCE = 2,
  SILENT = 900;

async function unzipped(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// Kept frames, bounded by their bytes; the longest unused goes first.
function makeStore() {
  const kept = new Map();
  let bytes = 0;
  const sizeOf = (frame) => 2 * frame.pieces.reduce((sum, piece) => sum + piece.length, 400);
  const drop = (key) => {
    bytes -= sizeOf(kept.get(key));
    kept.delete(key);
  };
  return {
    has: (key) => kept.has(key),
    get: (key) => {
      const frame = kept.get(key);
      if (frame) {
        kept.delete(key);
        kept.set(key, frame);
      }
      return frame;
    },
    put: (key, frame) => {
      if (kept.has(key)) drop(key);
      kept.set(key, frame);
      bytes += sizeOf(frame);
      while (bytes > MOST_BYTES && kept.size > 1) drop(kept.keys().next().value);
    },
    clear: () => {
      kept.clear();
      bytes = 0;
    },
  };
}

// Asks the kernel. `onFrame(number, frame)` and `onError(number, words)` come back in any order.
function makeLine(model, { onFrame, onError, onSilence }) {
  const view = uniqueId("view"),
    out = new Set();
  let number = 0,
    waiting = null,
    timer = null;
  const send = (one) => {
    out.add(one[0]);
    clearTimeout(timer);
    timer = setTimeout(() => onSilence(), SILENT);
    model.send({ view, ask: [one] });
  };
  const answer = async (message, buffers) => {
    if (message.view !== view) return; // for another copy of this view
    out.delete(message.number);
    if (!out.size) clearTimeout(timer);
    if (waiting && out.size < AT_ONCE) {
      const next = waiting;
      waiting = null;
      send(next);
    }
    if (message.error) {
      onError(message.number, message.error);
      return;
    }
    const frame = message.frame ?? (await unzipped(buffers[0]));
    onFrame(message.number, frame);
  };
  model.on("msg:custom", answer);
  return {
    ask: (width, values) => {
      // the last wish wins; returns its number
      const one = [++number, width, values];
      if (out.size < AT_ONCE) send(one);
      else waiting = one;
      return number;
    },
    idle: () => !out.size && !waiting,
    stop: () => {
      clearTimeout(timer);
      model.off("msg:custom", answer);
    },
  };
}

// A recording: every different text once, every state as its difference from the one before.
function makeRecording(data) {
  const states = [];
  let state = [];
  for (const [length, changes] of data.states) {
    state = state.slice(0, length);
    for (let i = 0; i < changes.length; i += 2) state[changes[i]] = changes[i + 1];
    states.push(state);
  }
  const frameAt = (index) => {
    const place = data.places[index];
    if (place === undefined || place < 0) return null;
    const [head, ...pieces] = states[place].map((text) => data.texts[text]);
    return { ...JSON.parse(head), pieces };
  };
  return {
    find: (values) => {
      let index = 0;
      for (const { name, stops } of data.controls) {
        const digit = stops.findIndex((stop) => same(stop, values[name]));
        index = index * stops.length + Math.max(0, digit);
      }
      return frameAt(index);
    },
  };
}
