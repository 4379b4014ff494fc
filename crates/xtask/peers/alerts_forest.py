"""A random forest over counts of alert events, as a peer of Quell's learned model: 300 trees of scikit-learn.

    python3 alerts_forest.py CASES TRUTH PARTS

Cases and truth are the files that `quell eval alerts` reads, and the parts are cut as it cuts them: every so-manieth case is in one.
Prints one line of JSON: how often the first service is the right one, and Brier's score of the confidence in it.
"""

import json
import sys
from collections import Counter

import numpy
from sklearn.ensemble import RandomForestClassifier

TREES = 300
# What occurs in fewer of the incidents to learn from says nothing of the next one.
INCIDENTS_MIN = 3


def counts(case):
    """How often each kind of event occurs, with the service and without what is particular."""
    found = Counter()
    for event in case["metrics"]:
        found["metric", event[0], event[-2], event[-1]] += 1
        found["metrics of", event[0]] += 1
        found["metrics of", event[0], event[-1]] += 1
    for event in case["logs"]:
        found["log", event[0], event[1]] += 1
        found["logs of", event[0]] += 1
    for event in case["traces"]:
        found["trace", event[0], event[1], event[3]] += 1
        found["traces from", event[0]] += 1
        found["traces to", event[1]] += 1
        found["traces to", event[1], event[3]] += 1
    return found


def matrix(cases, names):
    places = {name: place for place, name in enumerate(names)}
    rows = numpy.zeros((len(cases), len(names)))
    for row, case in zip(rows, cases):
        for name, count in case.items():
            if name in places:
                row[places[name]] = count
    return rows


def main(cases_file, truth_file, parts):
    with open(cases_file, encoding="utf-8") as lines:
        cases = [json.loads(line) for line in lines]
    with open(truth_file, encoding="utf-8") as lines:
        truth = {known["case"]: known["root_cause_service"] for known in map(json.loads, lines)}
    at_fault = numpy.array([truth[case["id"]] for case in cases])
    counted = [counts(case) for case in cases]
    hits, squares = 0, 0.0
    for part in range(parts):
        unseen = [place for place in range(len(cases)) if place % parts == part]
        seen = [place for place in range(len(cases)) if place % parts != part]
        occurs = Counter(name for place in seen for name in counted[place])
        names = [name for name, count in occurs.items() if count >= INCIDENTS_MIN]
        forest = RandomForestClassifier(TREES, random_state=part, n_jobs=-1)
        forest.fit(matrix([counted[place] for place in seen], names), at_fault[seen])
        shares = forest.predict_proba(matrix([counted[place] for place in unseen], names))
        for place, row in zip(unseen, shares):
            first = row.argmax()
            right = forest.classes_[first] == at_fault[place]
            hits += right
            squares += (row[first] - right) ** 2
    print(json.dumps({"cases": len(cases), "hits": int(hits), "brier": squares / len(cases)}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
