"""Plans for many queries at once, with everything that they need looked up in batches."""

from collections.abc import Callable, Sequence

from models.rewriter.protocol import Prompt
from models.search.plan import Answer, Answers, BestScore, Given, Need, Plan, Steps
from models.search.searches import Search


def make_plans(
    steps: Sequence[Steps[Plan]],
    best_scores: Callable[[list[Search]], Sequence[float | None]],
    answers: Callable[[dict[int, list[Prompt]]], dict[int, Sequence[Answer]]],
) -> list[Plan]:
    """Carries out the steps of many plans.

    Args:
        best_scores: the best picture's score in each search.
        answers: the rewriter's answers, by the number of the plan that needs them.
    """
    plans: dict[int, Plan] = {}
    given: dict[int, Given] = dict.fromkeys(range(len(steps)))
    while given:
        needs: dict[int, Need] = {}
        for number, value in given.items():
            try:
                needs[number] = steps[number].send(value)
            except StopIteration as ended:
                plans[number] = ended.value
        looked_up = {n: need.search for n, need in needs.items() if isinstance(need, BestScore)}
        asked = {n: need.prompts for n, need in needs.items() if isinstance(need, Answers)}
        given = {}
        if looked_up:
            scores = best_scores(list(looked_up.values()))
            given.update(zip(looked_up, scores, strict=True))
        if asked:
            given.update(answers(asked))
    return [plans[number] for number in range(len(steps))]
