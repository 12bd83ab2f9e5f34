//! `mobula tasks`: tasks of a cluster that have not ended, and what they wait for.

use crate::cluster::{TaskInfo, TaskList};
use crate::progress::count_text;
use clap::Args;

use super::columns::{columns, print};
use super::driver::OfCluster;
use super::failure::Failure;

/// Show the tasks of a cluster that have not ended, and what each waits for
///
/// Those that run come first, then those that wait for a node, then those that wait for their arguments. Jobs are not tasks:
/// see `mobula jobs`.
#[derive(Debug, Args)]
pub(crate) struct Tasks {
    #[command(flatten)]
    cluster: OfCluster,
}

impl Tasks {
    /// Asks and prints.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let list = self.cluster.driver()?.open_tasks().map_err(crate::Error::from)?;
        print(&text(&list))
    }
}

fn text(list: &TaskList) -> String {
    let TaskList { counts, tasks } = list;
    let [running, queued, waiting, values] =
        [counts.running, counts.queued, counts.waiting, counts.values].map(|count| count_text(count as u64));
    let head =
        format!("{running} run, {queued} wait for a node, {waiting} wait for arguments; {values} values are known\n");
    if tasks.is_empty() {
        return head;
    }
    let rows: Vec<_> = tasks.iter().map(row).collect();
    let more = (counts.running + counts.queued + counts.waiting).saturating_sub(tasks.len());
    let more = if more > 0 { format!("and {} more\n", count_text(more as u64)) } else { String::new() };
    head + &columns(["task", "function", "state"], &rows) + &more
}

fn row(task: &TaskInfo) -> [String; 3] {
    [task.task.clone(), task.function.clone(), task.state.clone()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use mobula_actors::task::TaskCounts;

    #[test]
    fn each_task_is_a_line_and_those_that_are_not_listed_are_counted() {
        let none = TaskList { counts: TaskCounts::default(), tasks: Vec::new() };
        assert_eq!(text(&none), "0 run, 0 wait for a node, 0 wait for arguments; 0 values are known\n");
        let counts = TaskCounts { values: 5, waiting: 3, queued: 0, running: 1 };
        let task = |task: &str, state: &str| TaskInfo {
            task: task.to_owned(),
            function: "add".to_owned(),
            state: state.to_owned(),
        };
        let tasks = vec![task("1", "runs on node n1"), task("12", "waits for its arguments: 1")];
        let expected = "1 run, 0 wait for a node, 3 wait for arguments; 5 values are known\n\
                        task  function  state\n\
                        1     add       runs on node n1\n\
                        12    add       waits for its arguments: 1\n\
                        and 2 more\n";
        assert_eq!(text(&TaskList { counts, tasks }), expected);
    }
}
