/*
 * commands.h - the commands of tickcastctl, one function each.
 *
 * argv[0] is the command's own name, as options.h wants it. Each returns the program's exit
 * status (enum ctl_status) and has said why on standard error when that is not 0. `bench` has a
 * header of its own.
 */
#ifndef TICKCAST_CTL_COMMANDS_H
#define TICKCAST_CTL_COMMANDS_H

int ctl_pub(int argc, char **argv);
int ctl_sub(int argc, char **argv);
int ctl_admin(int argc, char **argv);
int ctl_nodes(int argc, char **argv);
int ctl_drain(int argc, char **argv);
int ctl_sim(int argc, char **argv);
int ctl_replay(int argc, char **argv);

#endif
