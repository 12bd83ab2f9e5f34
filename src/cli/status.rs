//! `mobula status`: the nodes of a cluster.

use crate::cluster::{ClusterStatus, NodeInfo};
use clap::Args;

use super::columns::{columns, print};
use super::driver::OfCluster;
use super::failure::Failure;

/// Show the nodes of a cluster and what they have
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    cluster: OfCluster,
}

impl Status {
    /// Asks and prints.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let status = self.cluster.driver()?.status().map_err(crate::Error::from)?;
        print(&text(&status))
    }
}

fn text(status: &ClusterStatus) -> String {
    let rows: Vec<_> = status.nodes.iter().map(row).collect();
    let header = ["node", "state", "address", "cpus", "gpus", "memory for blocks", "labels"];
    let ClusterStatus { cluster, cpus, jobs, .. } = status;
    format!("cluster {cluster}: {cpus} cpus for jobs, {jobs} jobs running\n{}", columns(header, &rows))
}

fn row(node: &NodeInfo) -> [String; 7] {
    let mut labels: Vec<String> = node.resources.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.extend(node.resources.extras.iter().map(|(name, amount)| format!("{name}: {amount}")));
    [
        node.name.clone(),
        node.state.clone(),
        node.address.clone(),
        node.resources.cpus.to_string(),
        node.resources.gpus.to_string(),
        node.memory_budget.to_string(),
        labels.join(" "),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::{Bytes, Resources};

    #[test]
    fn each_node_is_a_line_with_what_it_has() {
        let node = NodeInfo {
            name: "n1".to_owned(),
            number: 1,
            state: "alive".to_owned(),
            address: "127.0.0.1:9".to_owned(),
            resources: Resources::cpu(2.0).label("disk", "ssd"),
            memory_budget: Bytes::mib(64),
        };
        let status = ClusterStatus {
            cluster: "c0".to_owned(),
            cpus: 2,
            memory_budget: Bytes::mib(64),
            block_bytes: Bytes::mib(8),
            nodes: vec![node],
            jobs: 0,
        };
        let expected = "cluster c0: 2 cpus for jobs, 0 jobs running\n\
                        node  state  address      cpus  gpus  memory for blocks  labels\n\
                        n1    alive  127.0.0.1:9  2     0     64.0 MiB           disk=ssd\n";
        assert_eq!(text(&status), expected);
    }
}
