"""The evaluation: data sets, anchor networks, training, worker-side checks, pools."""
