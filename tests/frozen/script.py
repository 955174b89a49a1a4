"""A frozen script: its tasks are known by its name and their source. Never edited: see README.md."""

from penstock import INPUTS, flow, task


@task(cache_policy=INPUTS)
def load(day):
    print("executed")
    return {"day": day, "rows": day * 2}


@task(cache_policy=INPUTS)
def total(loaded):
    print("executed")
    return sum(one["rows"] for one in loaded)


@flow
def weekly(days):
    return total([load(day) for day in days])


if __name__ == "__main__":
    print(weekly([1, 2, 3]))
