mod convergence;
mod traps;
