"""The ablation studies of the paper: Table II, Fig. 10 and Fig. 11, and the steps T."""
