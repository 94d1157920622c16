"""What lm-evaluation-harness makes of a server: lm_eval_client.py URL/v1 TRAIN TEST ROWS prints the answers to its own five-shot GSM8K task over
these files, as a JSON list, then checks log-likelihoods and a chat. Ends with an assertion where something is not as it must be."""
import json
import os
import sys

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", OPENAI_API_KEY="none")

import requests
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI
from lm_eval.tasks import TaskManager
import lm_eval.tasks

url, train, test, rows = sys.argv[1:5]
root = url.removesuffix("/v1")
model = requests.get(url + "/models").json()["data"][0]["id"]
own = {"base_url": url + "/completions", "model": model, "max_length": 1024, "tokenizer_backend": "remote"}
harness = LocalCompletionsAPI(batch_size=4, num_concurrent=1, **own)

# The harness's task as it is, on other files.
with open(os.path.join(os.path.dirname(lm_eval.tasks.__file__), "gsm8k", "gsm8k.yaml")) as file:
    task = yaml.safe_load(file)
task.update(task="here", dataset_path="parquet", dataset_kwargs={"data_files": {"train": train, "test": test}})
task.pop("dataset_name", None)
task.pop("tag", None)
done = simple_evaluate(model=harness, tasks=[task], limit=int(rows), log_samples=True, task_manager=TaskManager(),
                       bootstrap_iters=0)
samples = sorted(done["samples"]["here"], key=lambda sample: sample["doc_id"])
answers = {sample["doc_id"]: sample["resps"][0][0] for sample in samples}

# Log-likelihoods are the sums of what an echo tells.
pairs = [("Tom has 3 apples and buys 4 more.\nSo he has", " 7 apples"), ("2 + 2 =", " 4"), ("2 + 2 =", " 5")]
likely = harness.loglikelihood([Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)])


def ids(text):
    return requests.post(root + "/tokenize", json={"prompt": text, "add_special_tokens": False}).json()["tokens"]


for (context, continuation), (found, _) in zip(pairs, likely):
    body = {"prompt": ids(context + continuation), "max_tokens": 0, "echo": True, "logprobs": 1}
    told = requests.post(url + "/completions", json=body).json()["choices"][0]["logprobs"]["token_logprobs"]
    assert abs(found - sum(told[len(ids(context)):])) < 1e-5, (context, continuation, found)

chat = LocalChatCompletion(base_url=url + "/chat/completions", model=model, max_length=1024)
question = chat.apply_chat_template([{"role": "user", "content": "Tom has 3 apples and buys 4 more. How many has he?"}])
said = chat.generate_until([Instance("generate_until", {}, (question, {"until": ["Question:"], "max_gen_toks": 80}), 0)])
assert "#### 7" in said[0], said
print(json.dumps([answers[index] for index in sorted(answers)]))
