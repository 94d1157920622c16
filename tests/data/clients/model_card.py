"""What huggingface_hub makes of a model card: model_card.py README.md prints its results as a JSON list of (metric, value)."""
import json
import sys

from huggingface_hub import ModelCard

card = ModelCard.load(sys.argv[1])
results = card.data.eval_results
assert results and card.data.model_name and "model-index" in card.data.to_dict()
for result in results:
    assert result.task_type == "text-generation" and result.dataset_type and result.dataset_name
# Written again, it is the same.
assert ModelCard(str(card)).data.eval_results == results
print(json.dumps([(result.metric_name, result.metric_value) for result in results]))
