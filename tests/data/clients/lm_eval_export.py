"""What lm-evaluation-harness's own reading code makes of an export: lm_eval_export.py FOLDER prints {model folder: {filter: accuracy}} as JSON. It
goes as the harness's scripts/zeno_visualize.py goes: the newest results_*.json of each model's folder, its tasks, their samples, as data frames."""
import json
import sys
from pathlib import Path

import datasets
import pandas
from lm_eval.utils import (get_file_task_name, get_latest_filename, get_results_filenames, get_sample_results_filenames,
                           make_table)

told = {}
for folder in sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir()):
    files = [path.as_posix() for path in folder.iterdir()]
    results = json.load(open(get_latest_filename(get_results_filenames(files)), encoding="utf-8"))
    make_table(results)
    assert isinstance(results["config"]["model_args"], (str, dict))
    for task, config in results["configs"].items():
        own = [path for path in get_sample_results_filenames(files) if get_file_task_name(Path(path).name) == task]
        newest = get_latest_filename(own)
        data = [json.loads(line) for line in open(newest, encoding="utf-8")]
        assert config["output_type"] == "generate_until" and config["filter_list"]
        frame = pandas.DataFrame({
            "id": [f"{row['doc_id']}.{row['filter']}" for row in data],
            "data": [row["arguments"]["gen_args_0"]["arg_0"] for row in data],
            "labels": [row["target"] for row in data],
            "filter": [row["filter"] for row in data],
            "output": [str(row["filtered_resps"][0]) for row in data],
            **{metric["metric"]: [row[metric["metric"]] for row in data] for metric in config["metric_list"]},
        })
        assert (frame["data"].str.len() > 0).all() and len(frame) == len(data)
        means = frame.groupby("filter")["exact_match"].mean().to_dict()
        for name, mean in means.items():
            assert abs(mean - results["results"][task][f"exact_match,{name}"]) < 1e-12, (name, mean)
        # As the hub reads samples.
        hub = datasets.load_dataset("json", data_files=newest, split="train")
        assert len(hub) == len(data) and set(hub.column_names) == set(data[0])
        told[folder.name] = means
print(json.dumps(told))
