"""The paper's experiments on any prepared data: plan, runner, and the page of results."""
