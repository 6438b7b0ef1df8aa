"""What answers to users show of how well they are made: latency, refusals, cost."""

from __future__ import annotations

from fti.store.contracts.requirements import Measured, Seen, percentile


def latency_p95_s(seen: Seen) -> Measured | None:
    """From the question to the last token."""
    return percentile([a.timings["total_s"] for a in seen.answers if "total_s" in a.timings], 0.95)


def first_token_p95_s(seen: Seen) -> Measured | None:
    """From the question to the first token, where answers were streamed."""
    begun = [a.timings["first_token_s"] for a in seen.answers if "first_token_s" in a.timings]
    return percentile(begun, 0.95)


def refusal_rate(seen: Seen) -> Measured | None:
    """Whoever refused: the search or the model."""
    answers = len(seen.answers)
    if not answers:
        return None
    return Measured(value=round(sum(a.abstained for a in seen.answers) / answers, 4), n=answers)


def cost_per_1000(seen: Seen) -> Measured | None:
    """What the tokens and the seconds of the answers cost, as if each had the machine to itself."""
    prompt = sum(a.usage.prompt_tokens for a in seen.answers)
    completion = sum(a.usage.completion_tokens for a in seen.answers)
    cost = seen.cost(prompt, completion, sum(a.timings.get("total_s", 0.0) for a in seen.answers))
    if not seen.answers or cost is None:
        return None
    return Measured(value=round(1000 * cost / len(seen.answers), 4), n=len(seen.answers))
