// Conversations, kept in this browser alone: each under a key of its own, so that two tabs with
// different ones do not overwrite each other. What is kept is bounded, the oldest goes first.

import * as memory from "./memory.js";

const PREFIX = "fti.conversation.";
const MOST_CONVERSATIONS = 100;
const MOST_TURNS = 100; // of one conversation
const MOST_CHARACTERS = 4_000_000; // of all; browsers give about five million
const LONGEST_TITLE = 80;

// { id, title, named, updated, turns: [{ question, content, annotations, event, seconds, … }] }
export const fresh = () => ({ id: crypto.getRandomValues(new Uint32Array(3)).join("-"), title: "",
  named: false, updated: 0, turns: [] });

export const titleOf = (conversation) => conversation.title || "New conversation";

export function rename(conversation, title) {
  conversation.title = title.trim().slice(0, LONGEST_TITLE);
  conversation.named = Boolean(conversation.title);
}

// All that are kept, the newest first. What cannot be read is none.
export function all() {
  return memory.names("local").filter(isOne).map(read).filter(Boolean)
    .toSorted((a, b) => b.updated - a.updated);
}

export const get = (id) => read(PREFIX + id);

export const isOne = (key) => key?.startsWith(PREFIX);

// Keeps a conversation as it is now; whether the browser had room for it, or let it be kept.
export function keep(conversation) {
  if (!conversation.named) conversation.title = firstWords(conversation);
  for (let most = MOST_TURNS; most > 0; most = Math.floor(most / 2)) {
    const text = JSON.stringify({ ...conversation, turns: conversation.turns.slice(-most) });
    if (text.length > MOST_CHARACTERS) continue;
    makeRoom(conversation.id, text.length);
    do {
      if (memory.remember("local", PREFIX + conversation.id, text)) return true;
    } while (dropOldest(conversation.id)); // alone, and still too long: keep fewer turns
  }
  return false;
}

export const forget = (id) => memory.forget("local", PREFIX + id);

function firstWords({ turns }) {
  const words = (turns[0]?.question ?? "").replace(/\s+/g, " ").trim();
  return words.length > LONGEST_TITLE ? `${words.slice(0, LONGEST_TITLE - 1)}…` : words;
}

function read(key) {
  try {
    const kept = JSON.parse(memory.recall("local", key));
    return Array.isArray(kept?.turns) && kept.id ? kept : null;
  } catch {
    return null; // no JSON: not ours, or damaged
  }
}

function makeRoom(id, length) {
  const others = all().filter((other) => other.id !== id);
  let taken = length;
  for (const [place, other] of others.entries()) {
    taken += memory.recall("local", PREFIX + other.id)?.length ?? 0;
    if (taken > MOST_CHARACTERS || place >= MOST_CONVERSATIONS - 1) forget(other.id);
  }
}

function dropOldest(but) {
  const oldest = all().findLast((other) => other.id !== but);
  if (oldest) forget(oldest.id);
  return Boolean(oldest);
}
