// What is said to people when there is no answer.

import { wait } from "./format.js";

const REASONS = {
  rate_limited: "You are writing faster than is allowed.",
  overloaded: "A lot is going on right now, so this message was not taken.",
  queue_share: "Your group has many messages waiting already.",
  too_many_sessions: "Too many conversations are active at the moment.",
  conversation_full: "This conversation has many messages waiting already.",
  displaced: "More urgent messages came first, and this one was given up.",
  draining: "The service is shutting down and takes no new messages.",
  busy: "The bot is still busy with your message before this one.",
  duplicate: "This message was sent before.",
  no_route: "Nobody here can answer this kind of message.",
  storage: "The message could not be saved, so it was not taken.",
  expired: "This message waited too long for an answer.",
  superseded: "A newer message took the place of this one.",
  handler_failed: "The bot failed to answer this. An operator can try it again.",
  cancelled: "Stopped.",
  origin: "This page may not talk to this service.",
  unauthorised: "A key is needed.",
  forbidden: "This key may not do that.",
};

/** The sentence for a problem; with the time to wait, if the server named one. */
export function sentence(problem) {
  const said = REASONS[problem?.reason] ?? problem?.detail ?? problem?.title ?? "This message was not answered.";
  return problem?.retry_after ? `${said} Try again in ${wait(problem.retry_after)}.` : said;
}

/** Whether sending the same again can help. */
export function isWorthAnother(problem) {
  return !["no_route", "duplicate", "origin", "superseded"].includes(problem?.reason) && problem?.status !== 422;
}

const CHANGES = {
  replaced: "Changed; it was still waiting.",
  restarted: "Changed; the bot starts again.",
  ended: "Too late: it has been answered.",
  unknown: "Too late: the service does not know this message any more.",
};

/** What an edit did. */
export function changed(change) {
  return CHANGES[change] ?? `Changed (${change}).`;
}
