// What the browser remembers: "local" for good, "session" for this tab. It may forbid that, or have
// no room; then there is nothing to recall, and the page goes on without.

const storage = (where) => (where === "local" ? localStorage : sessionStorage);

export function recall(where, name) {
  try {
    return storage(where).getItem(name);
  } catch {
    return null;
  }
}

// Whether it could be kept.
export function remember(where, name, value) {
  try {
    storage(where).setItem(name, value);
    return true;
  } catch {
    return false;
  }
}

export function forget(where, name) {
  try {
    storage(where).removeItem(name);
  } catch { /* then nothing was kept either */ }
}

export function names(where) {
  try {
    return Object.keys(storage(where));
  } catch {
    return [];
  }
}
