create table broken.table_of_another_schema (id int);
create table alpha.intruder (id int);
