mod convergence;
mod host_path;
mod traps;
mod waking;
