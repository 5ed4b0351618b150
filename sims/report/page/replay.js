"use strict";
// The data of the page, from compact lists of whole numbers to objects with positions.

const TRACK = 10; // numbers of each track, as sims/report/document.py writes them

function decode(doc) {
  const { step, origin } = doc;
  const place = (i, axis) => (i + origin[axis]) * step;
  const count = doc.time.length;

  const measurements = doc.measurements?.map((flat) => {
    const points = [];
    for (let i = 0; i < flat.length; i += 2) points.push({ x: place(flat[i], 0), y: place(flat[i + 1], 1) });
    return points;
  });

  const truth = doc.truth && { labels: doc.truth.labels, ...withPaths(doc.truth.labels, doc.truth.scans, (flat, k) => {
    const objects = [];
    for (let i = 0; i < flat.length; i += 3)
      objects.push({ k, label: flat[i], x: place(flat[i + 1], 0), y: place(flat[i + 2], 1) });
    return objects;
  }) };

  const trackers = doc.trackers.map((tracker, index) => ({
    index,
    name: tracker.name,
    labels: tracker.labels,
    errors: tracker.errors,
    means: tracker.means,
    ...withPaths(tracker.labels, tracker.scans, (flat, k) => {
      const tracks = [];
      for (let i = 0; i < flat.length; i += TRACK) {
        const [label, x, y, major, minor, angle, existence, speed, seen, match] = flat.slice(i, i + TRACK);
        tracks.push({
          k, label, x: place(x, 0), y: place(y, 1), major: major * step, minor: minor * step,
          angle: (angle * Math.PI) / 180, existence: existence / 1000, speed: speed < 0 ? null : speed * step,
          seen: seen === 1, match,
        });
      }
      return tracks;
    }),
  }));

  const box = doc.box.map((value, i) => place(value, i % 2));
  return { ...doc, count, measurements, truth, trackers, box };
}

// Objects of every scan, and the path of each label: each object knows its place in its path.
function withPaths(labels, scans, objectsOf) {
  const paths = labels.map(() => []);
  const all = scans.map((flat, k) => {
    const objects = objectsOf(flat, k);
    for (const object of objects) {
      object.at = paths[object.label].length;
      paths[object.label].push(object);
    }
    return objects;
  });
  return { scans: all, paths };
}
