"""What Inspect AI makes of exported logs: inspect_export.py FOLDER prints {file: {scorer: accuracy}} as JSON, and checks them against the samples."""
import json
import sys
from pathlib import Path

from inspect_ai.log import read_eval_log
from inspect_ai.scorer import value_to_float

told = {}
for path in sorted(Path(sys.argv[1]).glob("*.json")):
    log = read_eval_log(str(path))
    assert log.status == "success" and log.samples and log.results
    number = value_to_float()
    own = {score.name: score.metrics["accuracy"].value for score in log.results.scores}
    for name, accuracy in own.items():
        values = [number(sample.scores[name].value) for sample in log.samples]
        assert abs(sum(values) / len(values) - accuracy) < 1e-12, name
    for sample in log.samples:
        assert sample.output.completion == sample.output.choices[0].message.text
        assert sample.messages[-1].role == "assistant" and sample.input and sample.target
    told[path.name] = own
print(json.dumps(told))
