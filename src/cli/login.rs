//! `mobula login`: makes this machine a driver of a cluster.

use std::path::PathBuf;

use crate::cluster::{self, Token};
use clap::Args;

use super::columns::print;
use super::failure::Failure;

/// Get this machine an identity to run jobs on a cluster
///
/// The head's own machine has one already.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Where the cluster's head listens
    #[arg(long, value_name = "ADDR")]
    cluster: String,
    /// A token of `mobula token --role driver`
    #[arg(long, value_name = "TOKEN")]
    token: Token,
    /// What this driver is called in the cluster: a-z, 0-9 and - (default: the name of the user)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Folder for the identity (default: $MOBULA_IDENTITY, or one for the address below ~/.mobula)
    #[arg(long, value_name = "DIR")]
    identity: Option<PathBuf>,
}

impl Login {
    /// Joins and keeps the identity.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let dir = match &self.identity {
            Some(dir) => dir.clone(),
            None => cluster::driver_folder(cluster::address(&self.cluster)?)?,
        };
        let name = self.name.clone().unwrap_or_else(|| driver_name(std::env::var("USER").ok()));
        let identity = cluster::login(&self.cluster, &self.token, &name, &dir)?;
        let (name, cluster, dir) = (identity.node(), identity.cluster(), dir.display());
        print(&format!("driver {name} of cluster {cluster}, kept in {dir}\n"))
    }
}

/// What a driver is called if nobody says: as its user, for a name is given out once.
fn driver_name(user: Option<String>) -> String {
    let fits = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let name: String = user.unwrap_or_default().to_lowercase().chars().map(fits).collect();
    match name.trim_matches('-') {
        "" => "driver".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_called_as_its_user() {
        let name = |user: &str| driver_name(Some(user.to_owned()));
        assert_eq!([name("Ada.Lovelace"), name("root"), name("é")], ["ada-lovelace", "root", "driver"]);
        assert_eq!(driver_name(None), "driver");
    }
}
