"""From replays to runs: figures, repeats, rate scales, the same admissions placed by the solver."""
